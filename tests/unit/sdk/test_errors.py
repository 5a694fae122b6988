"""Problem documents become exceptions of the same name."""

from __future__ import annotations

import httpx2
import pytest

from keelway import errors
from keelway.contracts.operations import Operation, OperationError, OperationState
from keelway.contracts.problems import PROBLEMS
from tests.unit.sdk import samples
from tests.unit.sdk.wire import problem


def answer(status: int, body: object = None, *, content: bytes | None = None) -> httpx2.Response:
    request = httpx2.Request("GET", "http://api/v1/x")
    if content is not None:
        return httpx2.Response(status, content=content, request=request)
    return httpx2.Response(status, json=body, request=request)


@pytest.mark.parametrize("problem_id", PROBLEMS)
def test_every_problem_has_an_exception_of_its_own_name(problem_id):
    body = problem(PROBLEMS[problem_id].status, problem_id, "what happened").body

    error = errors.from_response(answer(PROBLEMS[problem_id].status, body))

    assert type(error).__name__ == errors.class_name(problem_id)
    assert type(error).__mro__[1] is errors.ProblemError
    assert getattr(errors, type(error).__name__) is type(error)
    assert (error.type, error.status) == (problem_id, PROBLEMS[problem_id].status)


def test_there_is_no_exception_without_its_problem():
    declared = {cls.__name__ for cls in errors.ProblemError.__subclasses__()}

    assert declared == {errors.class_name(problem_id) for problem_id in PROBLEMS}


def test_a_problem_keeps_its_own_members_and_request_id():
    body = {**problem(409, "blobs-missing", "2 files", paths=["a", "b"]).body, "request_id": "r-1"}

    error = errors.from_response(answer(409, body))

    assert isinstance(error, errors.BlobsMissing)
    assert error.fields == {"paths": ["a", "b"]}
    assert error.request_id == "r-1"
    assert str(error) == "A title: 2 files"


def test_an_unknown_type_is_a_plain_problem_error():
    error = errors.from_response(answer(418, problem(418, "teapot").body))

    assert type(error) is errors.ProblemError
    assert error.type == "teapot"


@pytest.mark.parametrize("content", [b"", b"<html>Bad gateway</html>", b"[1]", b"\xff", b'{"title": 1}'])
def test_an_answer_that_is_no_problem_document_still_gives_a_problem_error(content):
    error = errors.from_response(answer(502, content=content))

    assert type(error) is errors.ProblemError
    assert error.status == 502
    assert "502" in str(error)


def test_a_failed_operation_tells_the_whole_story():
    failure = OperationError(
        code="replica-failed",
        message="The entry script could not be loaded",
        details={"exit_code": 3, "traceback": "Traceback:\n  ValueError: no"},
        log_tail=["one", "two"],
    )
    operation = Operation.model_validate(samples.operation(OperationState.FAILED, error=failure))

    error = errors.OperationFailed(operation)

    assert (error.code, error.log_tail, error.operation) == ("replica-failed", ["one", "two"], operation)
    for part in ("could not be loaded", "replica-failed", "exit code: 3", "ValueError: no", "two"):
        assert part in str(error)


def test_only_a_succeeded_operation_passes():
    def ended(state: OperationState) -> Operation:
        return Operation.model_validate(samples.operation(state))

    assert errors.raise_unless_succeeded(ended(OperationState.SUCCEEDED)).state == "succeeded"
    with pytest.raises(errors.OperationFailed):
        errors.raise_unless_succeeded(ended(OperationState.FAILED))
    with pytest.raises(errors.OperationCancelled):
        errors.raise_unless_succeeded(ended(OperationState.CANCELLED))
