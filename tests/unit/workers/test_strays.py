"""Processes with the mark of a replica that nobody keeps."""

import os
import subprocess
import sys

import pytest

from keelway_workers.targets.process import MARK_NODE, MARK_REPLICA, ProcessTarget


@pytest.fixture
def sleeper():
    """Starts processes that only carry marks; ends them."""
    started = []

    def start(replica, node):
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        env = {"PATH": os.environ["PATH"], MARK_REPLICA: replica, MARK_NODE: str(node)}
        started.append(subprocess.Popen(command, env=env))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_stray_is_ended_by_the_second_sweep_that_sees_it(node, sleeper):
    target = ProcessTarget(node)
    stray = sleeper("stray-r1-0", node.dir.root)

    target.sweep()
    after_one = stray.poll()
    target.sweep()

    assert after_one is None
    assert stray.wait(5) == -9


def test_a_replica_of_another_node_is_left_alone(node, sleeper, tmp_path):
    target = ProcessTarget(node)
    other = sleeper("stray-r1-0", tmp_path / "elsewhere")

    target.sweep()
    target.sweep()

    assert other.poll() is None
