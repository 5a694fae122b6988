"""Work that is stopped while model files come in: it ends soon and leaves nothing half-written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keelway.client import Client
from keelway.contracts.operations import OperationState
from keelway.contracts.services import DeploySpec
from keelway_workers.deploy import deploy
from keelway_workers.node import Node
from keelway_workers.operation import run_operation
from tests.unit.workers.plane import Plane, replica_spec

SIZE_BYTES = 100_000_000
SOON_S = 3.0


class SlowStore:
    """Serves blobs that never come to an end: they `drip`, or say nothing more after their first bytes."""

    def __init__(self, *, drips: bool) -> None:
        self.is_asked, self.released = threading.Event(), threading.Event()
        store = self

        class Blob(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(SIZE_BYTES))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(b"first bytes")
                    store.is_asked.set()
                    while not store.released.wait(0.02):
                        if drips:
                            self.wfile.write(b"x")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Blob)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,)).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(params=[True, False], ids=["drips", "says nothing"])
def store(request: pytest.FixtureRequest, plane: Plane) -> Iterator[SlowStore]:
    """A store behind the plane's blobs."""
    slow = SlowStore(drips=request.param)
    with Client(slow.url, "kw_secret", retry_for_s=2) as client:
        plane.blobs = client.blobs
        yield slow
        slow.close()


@pytest.fixture
def node(settings, plane: Plane, store: SlowStore) -> Node:
    return Node(settings, plane)  # type: ignore[arg-type]


def start_deploy(plane, settings, node, environment) -> threading.Thread:
    replica = replica_spec(plane, environment, name="")
    plane.deploy_spec = DeploySpec(replica=replica, num_replicas=1, scoring_uri="http://x/s", health_uri="http://x/")
    work = {"deploy": partial(deploy, node=node, settings=settings)}
    thread = threading.Thread(
        target=run_operation, args=("op-1",), kwargs={"settings": settings, "client": plane, "handlers": work}
    )
    thread.start()
    return thread


def is_bare(node: Node, *, within_s: float = 5) -> bool:
    """No blob, and no part of one: the threads that fetched them have cleaned up."""
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        blobs = [path for path in (node.dir.root / "blobs").rglob("*") if path.is_file()]
        if not blobs and not list(node.dir.tmp.iterdir()):
            return True
        time.sleep(0.02)
    return False


def test_a_cancelled_deploy_ends_while_files_are_fetched(plane, settings, node, environment, store):
    thread = start_deploy(plane, settings, node, environment)
    assert store.is_asked.wait(10)

    plane.operation_state = OperationState.CANCELLING
    thread.join(SOON_S)

    assert not thread.is_alive()
    assert plane.operation_state is OperationState.CANCELLED
    store.close()
    assert is_bare(node)


def test_a_deploy_past_its_deadline_ends_while_files_are_fetched(plane, settings, node, environment, store):
    plane.deadline_s = 2.0
    thread = start_deploy(plane, settings, node, environment)

    thread.join(plane.deadline_s + SOON_S)

    assert not thread.is_alive()
    assert plane.reports[-1].error.code == "deadline-passed"
    store.close()
    assert is_bare(node)


def test_a_replica_that_is_not_wanted_any_more_is_gone_while_its_files_are_fetched(
    plane, settings, environment, store, supervise
):
    plane.want(replica_spec(plane, environment))
    supervise()
    assert store.is_asked.wait(10)

    plane.want()

    ends_at = time.monotonic() + SOON_S
    while plane.observed is None or plane.observed.replicas:
        assert time.monotonic() < ends_at, "it is still there"
        time.sleep(0.02)
    assert not list((settings.node_dir / "replicas").iterdir())
