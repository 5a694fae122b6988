"""An exception that nobody foresaw: the process ends and says why, instead of working on in part."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.unit.workers.test_processes import process_environ

FAILING_THREAD = """
import sys
from keelway_workers import supervisor

def fail(self, *_):
    raise RuntimeError("nobody foresaw this")

supervisor.Supervisor.{method} = fail
from keelway_workers.__main__ import main
sys.exit(main(["supervisor"]))
"""

FAILING_KEEPER = """
import sys
from keelway_workers import keeper

def fail(self, *_):
    raise RuntimeError("nobody foresaw this")

keeper.Keeper._tick = keeper.Keeper._try_later = fail
from keelway_workers.__main__ import main
sys.exit(main(["supervisor"]))
"""

FAILING_WORKER = """
import sys, threading, time
from keelway_workers import worker

def fail():
    raise RuntimeError("nobody foresaw this")

def run_worker(settings):
    threading.Thread(target=fail, name="heartbeat", daemon=True).start()
    time.sleep(60)

worker.run_worker = run_worker
from keelway_workers.__main__ import main
sys.exit(main(["worker"]))
"""


def ended(program: str, settings) -> subprocess.CompletedProcess:
    environ = process_environ(
        KEELWAY_NODE_DIR=str(settings.node_dir),
        KEELWAY_URL="http://127.0.0.1:9",
        KEELWAY_REDIS_URL="redis://127.0.0.1:9",
    )
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=30, check=False
    )


def assert_crashed(process: subprocess.CompletedProcess) -> None:
    assert process.returncode == 1, process.stderr
    last = json.loads(process.stderr.splitlines()[-1])
    assert last["event"] == "a thread failed; the process ends to be started again"
    assert "RuntimeError: nobody foresaw this" in last["exception"]


@pytest.mark.parametrize("method", ["_hear", "_say", "_ship"])
def test_a_thread_of_the_supervisor_that_fails_ends_it(settings, method):
    assert_crashed(ended(FAILING_THREAD.format(method=method), settings))


def test_a_keeper_that_fails_ends_the_supervisor(settings, node):
    node.dir.desired.write_text('{"generation": 1, "replicas": []}')
    node.dir.replica("ridge-r1-0").mkdir()

    assert_crashed(ended(FAILING_KEEPER, settings))


def test_a_thread_of_the_worker_that_fails_ends_it(settings):
    assert_crashed(ended(FAILING_WORKER, settings))
