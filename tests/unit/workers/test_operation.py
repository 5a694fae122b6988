"""Attempts: claimed once, kept alive, fenced, ended and reported."""

from __future__ import annotations

import errno
import sys
import threading
import time

import pytest

from keelway.contracts.operations import OperationState
from keelway.errors import DependencyAway, ProblemError
from keelway_workers.delete import delete
from keelway_workers.failures import WorkFailed, WorkStopped
from keelway_workers.operation import run_operation
from tests.unit.workers.plane import PROBLEM


def run(plane, settings, handler) -> None:
    run_operation("op-1", settings=settings, client=plane, handlers={"deploy": handler, "delete": handler})


@pytest.fixture
def sleeper(plane):
    """A handler that runs a command for ever, and what became of it."""
    outcome: list[str] = []

    def handler(attempt):
        try:
            attempt.step("Sleeping")
            attempt.subtree.run(
                [sys.executable, "-c", "import time; time.sleep(100)"], env={}, on_line=print, timeout_s=100
            )
        except WorkStopped:
            outcome.append("stopped")
            raise
        return {}

    handler.outcome = outcome
    return handler


def after(seconds: float, change) -> threading.Timer:
    timer = threading.Timer(seconds, change)
    timer.start()
    return timer


def test_work_is_reported_in_order(plane, settings):
    def handler(attempt):
        attempt.step("One")
        attempt.reporter.log("first line")
        attempt.step("Two")
        attempt.reporter.log("second\0line")
        return {"image": "abc"}

    run(plane, settings, handler)

    assert plane.operation_state is OperationState.SUCCEEDED
    assert plane.steps == ["One", "Two"]
    assert plane.log == "first line\nsecond\ufffdline\n"
    assert [report.seq for report in plane.reports] == list(range(1, len(plane.reports) + 1))
    assert plane.reports[-1].result == {"image": "abc"}


def test_what_somebody_else_works_on_is_left_alone(plane, settings):
    plane.operation_state = OperationState.RUNNING

    run(plane, settings, lambda attempt: pytest.fail("it was not ours"))

    assert not plane.reports


def test_an_api_that_is_away_at_the_claim_is_no_error(plane, settings):
    plane.is_away = True

    run(plane, settings, lambda attempt: pytest.fail("nothing was claimed"))


def test_a_foreseen_failure_becomes_the_operations_error(plane, settings):
    def handler(attempt):
        raise WorkFailed("no-luck", "it did not work", details={"a": 1}, log_tail=["last"])

    run(plane, settings, handler)

    error = plane.reports[-1].error
    assert (error.code, error.message, error.details, error.log_tail) == (
        "no-luck",
        "it did not work",
        {"a": 1},
        ["last"],
    )


def test_a_bug_is_our_mistake_and_tells_nothing_more(plane, settings):
    def handler(attempt):
        raise RuntimeError("a secret detail")

    run(plane, settings, handler)

    error = plane.reports[-1].error
    assert error.code == "internal-error"
    assert error.details["incident"] in error.message
    assert "secret detail" not in error.model_dump_json()


def test_a_full_disk_is_named(plane, settings):
    def handler(attempt):
        raise OSError(errno.ENOSPC, "No space left on device")

    run(plane, settings, handler)

    assert plane.reports[-1].error.code == "disk-full"


def test_an_answer_of_the_api_keeps_its_name(plane, settings):
    def handler(attempt):
        raise ProblemError(status=409, type="wrong-state", title="Not in this state", detail="deleting")

    run(plane, settings, handler)

    assert plane.reports[-1].error.code == "wrong-state"


def test_a_kind_that_nobody_knows_fails(plane, settings):
    run_operation("op-1", settings=settings, client=plane, handlers={})

    assert plane.reports[-1].error.code == "kind-not-known"


def test_cancelling_ends_the_commands_and_is_reported(plane, settings, sleeper):
    timer = after(0.5, lambda: setattr(plane, "operation_state", OperationState.CANCELLING))

    run(plane, settings, sleeper)

    timer.join()
    assert sleeper.outcome == ["stopped"]
    assert plane.operation_state is OperationState.CANCELLED


def test_an_attempt_that_lost_its_lease_stops_and_says_nothing(plane, settings, sleeper):
    timer = after(0.5, lambda: setattr(plane, "epoch", plane.epoch + 1))

    run(plane, settings, sleeper)

    timer.join()
    assert sleeper.outcome == ["stopped"]
    assert not any(report.state.is_terminal for report in plane.reports)
    assert plane.operation_state is OperationState.RUNNING


def test_an_attempt_ends_at_its_deadline(plane, settings, sleeper):
    plane.deadline_s = 0.6

    run(plane, settings, sleeper)

    assert sleeper.outcome == ["stopped"]
    assert plane.reports[-1].error.code == "deadline-passed"


def test_work_goes_on_while_the_api_is_away_and_is_reported_after(plane, settings):
    timers = []

    def handler(attempt):
        plane.is_away = True
        attempt.reporter.log("said while it was away")
        timers.append(after(1.5, lambda: setattr(plane, "is_away", False)))
        attempt.patiently(lambda: plane.operations.replicas("op-1"))
        return {"done": True}

    run(plane, settings, handler)

    timers[0].join()
    assert plane.operation_state is OperationState.SUCCEEDED
    assert plane.epoch == 1
    assert "said while it was away" in plane.log


def test_the_final_report_is_tried_until_it_arrives(plane, settings):
    timers = []

    def handler(attempt):
        plane.is_away = True
        timers.append(after(1, lambda: setattr(plane, "is_away", False)))
        return {}

    run(plane, settings, handler)

    timers[0].join()
    assert plane.operation_state is OperationState.SUCCEEDED


def test_a_dependency_that_is_away_is_waited_for(plane, settings):
    answers = iter([DependencyAway(**(PROBLEM | {"status": 503})), None])

    def call():
        if error := next(answers):
            raise error
        return "there"

    def handler(attempt):
        return {"answer": attempt.patiently(call)}

    run(plane, settings, handler)

    assert plane.reports[-1].result == {"answer": "there"}


def test_heartbeats_keep_coming_during_work(plane, settings):
    def handler(attempt):
        time.sleep(1)
        return {}

    run(plane, settings, handler)

    assert plane.heartbeats >= 3


def test_a_log_too_long_to_wait_is_cut_with_a_note(plane, settings, monkeypatch):
    monkeypatch.setattr("keelway_workers.reporter.MAX_WAITING", 1000)

    def handler(attempt):
        for _ in range(100):
            attempt.reporter.log("x" * 99)
        return {}

    run(plane, settings, handler)

    assert "90 lines dropped" in plane.log


def test_a_delete_waits_until_the_replicas_are_gone(plane, settings):
    plane.kind = "delete"
    plane.spec = {"workspace": "default", "service": "ridge", "replicas": ["ridge-r1-0"]}
    plane.want(*[_spec(plane)])
    timer = after(0.5, plane.want)

    started = time.monotonic()
    run(plane, settings, delete)

    timer.join()
    assert plane.operation_state is OperationState.SUCCEEDED
    assert plane.steps == ["Stopping 1 replica"]
    assert time.monotonic() - started >= 0.4


def _spec(plane):
    from tests.unit.workers.plane import environment_spec, replica_spec

    return replica_spec(plane, environment_spec())
