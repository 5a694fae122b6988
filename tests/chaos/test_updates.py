"""A service is updated, and those who do it die: whoever calls it never hears of it."""

import signal

import pytest

from keelway.contracts.services import InferenceConfig
from tests.support.callers import Callers
from tests.support.running import replicas
from tests.support.scripts import gated
from tests.support.stack import until


@pytest.fixture
def service(user):
    """A service that answers; taken down in the end."""
    service = user.deploy("changes")
    yield service
    user.delete("changes")


@pytest.fixture
def gate(tmp_path):
    """The new revision waits in init() until this file is there."""
    return tmp_path / "gate"


def begin(user, gate):
    """An update that waits at the gate."""
    config = InferenceConfig(entry_script="score.py", snapshot=user.snapshot(gated(gate)), environment=user.environment)
    handle = user.client.services.update("changes", inference=config)
    user.until_step(handle, "Loading the model")
    return handle


@pytest.mark.parametrize("victim", ["worker", "supervisor", "api", "postgres"])
def test_an_update_in_which_somebody_dies_is_done_and_no_request_fails(stack, user, service, gate, victim):
    with Callers(service.scoring_uri) as callers:
        handle = begin(user, gate)
        killed = stack.kill(victim)
        stack.wait_restarted(victim, killed)
        gate.touch()
        ended = user.ended(handle)
        until(lambda: len(replicas(stack, "changes")) == 1, "the old replica is gone")

    assert ended.state == "succeeded", ended.error
    assert set(callers.answers) == {"{}"}, callers.answers
    serving = user.client.services.get("changes")
    assert [(one.name, one.traffic) for one in serving.revisions] == [("r2", 100), ("r1", 0)]
    assert serving.state == "healthy"


def test_an_update_that_is_cancelled_while_its_worker_sleeps_leaves_what_serves(stack, user, service, gate):
    with Callers(service.scoring_uri) as callers:
        handle = begin(user, gate)
        stack.kill("worker", signal.SIGSTOP)
        user.client.operations.cancel(handle.operation_id)
        until(lambda: user.operation(handle).state.is_terminal, "somebody ends it", 30)
        stack.kill("worker", signal.SIGCONT)
        until(lambda: len(replicas(stack, "changes")) == 1, "the new replica is gone", 30)

    assert set(callers.answers) == {"{}"}, callers.answers
    serving = user.client.services.get("changes")
    assert (serving.state, [one.traffic for one in serving.revisions]) == ("healthy", [0, 100])
