"""Replicas die, and those who look after them do."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.running import replicas
from tests.support.stack import until

BACK_S = 10
ADOPTED_S = 30  # a supervisor that starts meanwhile has its own start first, and that takes what the machine takes
CONTROL_PLANE = ("api", "postgres", "redis", "s3")


@pytest.fixture
def service(user):
    """A service that answers; taken down in the end."""
    service = user.deploy("stays")
    yield service
    user.delete("stays")


@pytest.fixture
def without_control_plane(stack):
    """API, Postgres, Redis and S3 answer nothing."""
    for name in CONTROL_PLANE:
        stack.kill(name, signal.SIGSTOP)
    yield
    for name in CONTROL_PLANE:
        stack.kill(name, signal.SIGCONT)


def only(stack):
    """The one replica's process."""
    (process,) = replicas(stack, "stays")
    return process


def is_back(stack, user, service, killed):
    """Another process answers at the same address."""
    running = replicas(stack, "stays")
    return len(running) == 1 and running[0].pid != killed and user.scores(service)


def test_a_killed_replica_is_back_at_its_address_within_ten_seconds(stack, user, service):
    killed = only(stack)

    killed.kill()

    until(lambda: is_back(stack, user, service, killed.pid), "another answers", BACK_S)
    until(lambda: user.client.services.get("stays").state == "healthy", "the service is healthy")
    (replica,) = user.client.services.get("stays").replicas
    assert (replica.restarts, replica.state) == (1, "ready")


def test_a_replica_killed_while_the_control_plane_is_away_is_back_as_well(stack, user, service, without_control_plane):
    killed = only(stack)

    killed.kill()

    until(lambda: is_back(stack, user, service, killed.pid), "another answers", BACK_S)


def test_scoring_goes_on_while_the_control_plane_is_away_and_the_gateway_restarts(
    stack, user, service, without_control_plane
):
    answers = [user.scores(service) for _ in range(50)]
    killed = stack.kill("gateway")
    stack.wait_restarted("gateway", killed)
    until(lambda: user.scores(service), "the restarted gateway routes", BACK_S)
    again = [user.scores(service) for _ in range(50)]

    assert all(answers)
    assert all(again)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_replicas_are_adopted_by_the_next_supervisor(stack, user, service, number):
    before = only(stack)

    killed = stack.kill("supervisor", number)
    stack.wait_restarted("supervisor", killed)

    assert only(stack) == before
    before.kill()  # and looked after
    until(lambda: is_back(stack, user, service, before.pid), "another answers", ADOPTED_S)


def test_a_supervisor_restarted_while_the_control_plane_is_away_adopts_and_restarts(
    stack, user, service, without_control_plane
):
    before = only(stack)

    killed = stack.kill("supervisor")
    until(lambda: stack.pid_of("supervisor") not in {None, killed}, "another supervisor starts")
    before.kill()

    until(lambda: is_back(stack, user, service, before.pid), "another answers", ADOPTED_S)


def test_replicas_outlive_their_worker(stack, user, service):
    before = only(stack)

    killed = stack.kill("worker")
    stack.wait_restarted("worker", killed)

    assert only(stack) == before
    assert user.scores(service)


@pytest.fixture
def sleeper():
    """Starts processes that do nothing, with the variables given; ends them."""
    started = []

    def start(**variables):
        command = [sys.executable, "-c", "import time; time.sleep(300)"]
        started.append(subprocess.Popen(command, env={"PATH": os.environ["PATH"], **variables}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_replica_that_nobody_wants_is_ended_and_strangers_are_left_alone(stack, user, service, sleeper, tmp_path):
    node = str(stack.layout.node)
    orphan = sleeper(KEELWAY_REPLICA="orphan-r1-0-abcdef", KEELWAY_NODE_DIR=node, SERVICE_NAME="orphan")
    strangers = [
        sleeper(),
        sleeper(KEELWAY_REPLICA="other-r1-0-abcdef", KEELWAY_NODE_DIR=str(tmp_path)),
        sleeper(KEELWAY_NODE_DIR=node),
    ]
    kept = only(stack)

    until(lambda: orphan.poll() is not None, "the orphan is ended", 30)

    assert orphan.returncode == -signal.SIGKILL
    assert [stranger.poll() for stranger in strangers] == [None, None, None]
    assert only(stack) == kept


def test_a_replica_that_dies_again_and_again_is_tried_again_and_told(stack, user, service):
    for _ in range(2):
        killed = only(stack)
        killed.kill()
        until(lambda killed=killed: is_back(stack, user, service, killed.pid), "another answers", BACK_S)

    (replica,) = user.client.services.get("stays").replicas
    assert replica.restarts == 2
    assert psutil.pid_exists(only(stack).pid)
    assert time.time() - only(stack).create_time() < BACK_S
