"""Replicas outlive `up`, and are found again by the next one."""

import os
import signal
import time
from pathlib import Path

import pytest

from keelway import Client
from keelway.inference import InferenceSource
from keelway_standalone.strays import REPLICA, replicas
from tests.support.running import replicas as first_processes
from tests.support.stack import Stack, until

SCRIPT = "def init(): pass\n\n\ndef run(data): return {'got': data}\n"


@pytest.fixture
def own(tmp_path):
    """A stack for one test alone, which may end it."""
    stack = Stack(tmp_path)
    stack.start()
    yield stack
    stack.stop()


def deploy(stack: Stack, folder: Path) -> str:
    """A service that answers what it was sent; its scoring address."""
    folder.mkdir()
    (folder / "score.py").write_text(SCRIPT)
    with Client(stack.url, stack.admin_token) as client:
        source = InferenceSource(entry_script="score.py", source_directory=folder)
        return client.services.deploy("echo", [], source).wait(120).scoring_uri


def score(stack: Stack, uri: str) -> object:
    with Client(stack.url, stack.admin_token) as client:
        return client.services.score(uri, {"data": 1})


def replica_pids(stack: Stack) -> set[int]:
    return {process.pid for process in stack.processes() if REPLICA in process.environ()}


def test_replicas_outlive_an_up_that_is_killed_and_end_with_one_that_is_stopped(own, tmp_path):
    uri = deploy(own, tmp_path / "source")
    answer = score(own, uri)
    before = replica_pids(own)
    assert len(first_processes(own)) == 1

    os.kill(own.pid, signal.SIGKILL)
    until(lambda: {process.pid for process in own.processes()} == before, "only the replica is left", 10)
    own.start()

    assert replica_pids(own) == before
    assert score(own, uri) == answer

    started = time.monotonic()
    assert own.stop(signal.SIGINT) == 0
    assert time.monotonic() - started < 15
    assert replicas(own.layout) == set()
    assert own.processes() == []
