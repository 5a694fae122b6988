"""The worker dies, or sleeps for longer than its lease, while it builds and deploys."""

import contextlib
import subprocess
import time

import psutil
import pytest

from keelway import Client
from keelway.contracts.operations import OperationState, Report
from keelway.contracts.services import PlaceReplicas
from keelway.errors import StaleAttempt
from tests.chaos.conftest import LEASE_S
from tests.support.index import PACKAGE
from tests.support.running import commands, family, replicas
from tests.support.scripts import gated
from tests.support.stack import until


@pytest.fixture
def gate(tmp_path):
    """Scripts wait in init() until this file is there."""
    return tmp_path / "gate"


@pytest.fixture
def stalled(user, index):
    """An environment version whose build waits for a download, and that download's version."""
    version = index.new_version()
    return user.client.environments.register("stalled", pip_requirements=[f"{PACKAGE}=={version}"]), version


def kill_worker(stack):
    """kill -9 of the worker and its pool at once; the pid it had."""
    pid = stack.pid_of("worker")
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):  # the pool dies with the worker, and may have done so
            process.kill()
    return pid


def test_a_build_whose_worker_is_killed_is_done_by_the_next_attempt(stack, user, index, stalled):
    environment, version = stalled
    operation = user.client.environments.build(environment.name, environment.version)
    until(lambda: index.is_waited_for(version), "the build downloads")
    index.forget(version)

    assert commands(stack)
    stack.kill("worker")  # the main process alone: its children must not outlive it
    until(lambda: not commands(stack), "the build's processes die with their worker", 5)
    until(lambda: index.is_waited_for(version), "another attempt downloads", 30)
    index.let_go(version)
    ended = user.client.operations.wait(operation.id, 60)

    assert (ended.state, ended.attempts, ended.epoch) == ("succeeded", 2, 2)
    assert list((stack.layout.node / "environments").glob(".tmp-*")) == []


def test_a_deployment_whose_worker_is_killed_ends_with_one_replica(stack, user, gate):
    handle = user.start("bereaved", gated(gate))
    user.until_step(handle, "Loading the model")
    before = [process.pid for process in replicas(stack, "bereaved")]

    killed = kill_worker(stack)
    stack.wait_restarted("worker", killed)
    until(lambda: user.operation(handle).attempts == 2, "another attempt begins", 30)
    gate.touch()
    ended = user.ended(handle)

    assert (ended.state, ended.attempts) == ("succeeded", 2)
    assert [process.pid for process in replicas(stack, "bereaved")] == before
    assert len(before) == 1
    service = user.client.services.get("bereaved")
    assert (service.state, len(service.revisions), len(service.replicas)) == ("healthy", 1, 1)
    assert user.scores(service)
    user.delete("bereaved")


@pytest.fixture
def second_worker(stack):
    """Another worker of the same node, as `up` would start it."""
    first = psutil.Process(stack.pid_of("worker"))
    with stack.layout.log("second-worker").open("wb") as log:
        second = subprocess.Popen(
            first.cmdline(), env=first.environ(), cwd=first.cwd(), stdout=log, stderr=log, start_new_session=True
        )
    yield second
    second.terminate()
    second.wait(20)


def test_a_worker_that_wakes_after_its_lease_changes_nothing(stack, user, gate, second_worker):
    handle = user.start("slept", gated(gate))
    user.until_step(handle, "Loading the model")
    owner = _owner(stack, handle)
    sleepers = [p for p in (psutil.Process(owner), psutil.Process(owner).parent()) if p is not None]

    for process in sleepers:
        process.suspend()
    until(lambda: user.operation(handle).attempts == 2, "another attempt begins", 10 * LEASE_S)
    for process in reversed(sleepers):
        process.resume()
    _refuses_the_first_attempt(stack, handle)
    gate.touch()
    ended = user.ended(handle)

    assert (ended.state, ended.attempts, ended.epoch) == ("succeeded", 2, 2)
    assert len(replicas(stack, "slept")) == 1
    assert len(user.client.services.get("slept").revisions) == 1
    assert _owner(stack, handle) != owner
    user.delete("slept")


def _refuses_the_first_attempt(stack, handle):
    """Whatever it says or asks for."""
    late = Report(epoch=1, seq=1000, state=OperationState.FAILED)
    place = PlaceReplicas(epoch=1, node="elsewhere", image="x")
    with Client(stack.url, stack.secrets.read("worker_token"), workspace="default") as worker:
        for ask in (
            lambda: worker.operations.report(handle.operation_id, late),
            lambda: worker.operations.heartbeat(handle.operation_id, 1),
            lambda: worker.operations.place(handle.operation_id, place),
            lambda: worker.operations.activate(handle.operation_id, 1),
        ):
            with pytest.raises(StaleAttempt):
                ask()


def _owner(stack, handle):
    """The pid of the process that has the operation."""
    with stack.postgres.connect() as connection:
        row = connection.execute("SELECT owner FROM operations WHERE id = %s", [handle.operation_id]).fetchone()
    return int(row[0].split("/")[1])


def test_a_cancelled_build_ends_within_seconds_with_everything_it_started(stack, user, index, stalled):
    environment, version = stalled
    operation = user.client.environments.build(environment.name, environment.version)
    until(lambda: index.is_waited_for(version), "the build downloads")
    assert commands(stack)

    asked = time.monotonic()
    user.client.operations.cancel(operation.id)
    ended = user.client.operations.wait(operation.id, 30)

    assert ended.state == "cancelled"
    assert time.monotonic() - asked < 8
    assert commands(stack) == []
    assert list((stack.layout.node / "environments").glob(".tmp-*")) == []
