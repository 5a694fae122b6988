"""Everything the SDK raises.

KeelwayError
├── Unreachable          no answer, after retries
├── WaitTimeout          it goes on, but you did not want to wait longer
├── InvalidInput         refused here, before anything was sent
├── DamagedDownload      the bytes that came are not those that were announced
├── ScoringError         a service answered a scoring request with an error
├── OperationFailed      long work ended without success
├── OperationCancelled   long work was cancelled
└── ProblemError         the API answered with a problem document
    └── NotFound, StaleAttempt, ...    one class for every id in `keelway.contracts.problems`
"""
# ruff: noqa: N818  (classes are named after the problem's id, and `except NotFound` reads well)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keelway.contracts.problems import PROBLEMS

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from keelway.contracts.operations import Operation

_LOG_LINES_SHOWN = 40
_BODY_SHOWN = 500


class KeelwayError(Exception):
    """Base of everything the SDK raises on purpose."""


class Unreachable(KeelwayError):
    """No answer came: connection refused, cut or timed out, and retrying did not help in time."""


class WaitTimeout(KeelwayError, TimeoutError):
    """The caller's own limit for waiting passed; the work itself goes on."""


class InvalidInput(KeelwayError):
    """What was asked for cannot work; found before anything was sent."""


class DamagedDownload(KeelwayError):
    """Downloaded bytes whose sha256 or size is not the announced one; nothing was kept."""

    def __init__(self, path: str | Path, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path


class UntrustedSignature(KeelwayError):
    """A version's signature was not made with the given key, or is about other files."""


class ScoringError(KeelwayError):
    """A service's answer to a scoring request, when it is an error. `body` is the answer's text."""

    def __init__(self, status: int, body: str, *, request_id: str | None = None) -> None:
        super().__init__(f"the service answered {status}: {body[:_BODY_SHOWN]}")
        self.status = status
        self.body = body
        self.request_id = request_id


class OperationFailed(KeelwayError):
    """Long work ended without success. `str()` is the whole story: reason, exit code, traceback, last log lines."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        error = operation.error
        self.code = error.code if error else "unknown"
        self.message = error.message if error else f"{operation.kind} of {operation.subject} ended as {operation.state}"
        self.details: dict[str, Any] = dict(error.details) if error else {}
        self.log_tail: list[str] = list(error.log_tail) if error else []
        super().__init__(self.message)

    def __str__(self) -> str:
        lines = [f"{self.message} ({self.code})"]
        if (exit_code := self.details.get("exit_code")) is not None:
            lines.append(f"exit code: {exit_code}")
        if traceback := self.details.get("traceback"):
            lines += ["traceback:", *_indented(str(traceback).splitlines())]
        if self.log_tail:
            lines += ["last log lines:", *_indented(self.log_tail[-_LOG_LINES_SHOWN:])]
        return "\n".join(lines)


class OperationCancelled(KeelwayError):
    """Somebody cancelled the operation before it ended."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(f"{operation.kind} of {operation.subject} was cancelled")
        self.operation = operation


class ProblemError(KeelwayError):
    """An error answer of the API.

    `type` is the stable id, e.g. `not-found`; `fields` are the problem's own members, which say what to do about it.
    """

    def __init__(
        self,
        *,
        status: int,
        type: str,
        title: str,
        detail: str,
        fields: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.fields = fields or {}
        self.request_id = request_id
        self.retry_after_s = 0.0

    def __str__(self) -> str:
        return f"{self.title}: {self.detail}" if self.detail else self.title


class Unauthenticated(ProblemError):
    """401: Who are you."""


class Forbidden(ProblemError):
    """403: Your role does not allow this."""


class NotFound(ProblemError):
    """404: Not found."""


class MethodNotAllowed(ProblemError):
    """405: Method not allowed."""


class InvalidRequest(ProblemError):
    """422: The request is malformed."""


class TooLarge(ProblemError):
    """413: Too large."""


class HostNotAllowed(ProblemError):
    """400: This host name is not served here."""


class WrongState(ProblemError):
    """409: Not in this state."""


class AlreadyExists(ProblemError):
    """409: The name is taken."""


class InUse(ProblemError):
    """409: Something still uses it."""


class Immutable(ProblemError):
    """409: This cannot be changed."""


class ApprovalNeeded(ProblemError):
    """409: The version is not approved."""


class SignatureInvalid(ProblemError):
    """422: This is no signature of the version's files."""


class NotInspected(ProblemError):
    """409: The version was not inspected yet."""


class UnsafeModel(ProblemError):
    """409: This workspace refuses what was found in the version."""


class OutputConflict(ProblemError):
    """409: The output does not fit beside those there are."""


class OutputNotFound(ProblemError):
    """404: The run has no such output."""


class NoSuchChild(ProblemError):
    """404: No child run is the one asked for."""


class BlobsMissing(ProblemError):
    """409: Some files are not uploaded yet."""


class BlobNotExpected(ProblemError):
    """404: No open upload lists these bytes."""


class DigestMismatch(ProblemError):
    """422: The bytes are not what was announced."""


class OffsetMismatch(ProblemError):
    """409: An interrupted upload goes on elsewhere: `.fields["received_bytes"]` says where."""


class UploadStalled(ProblemError):
    """408: The upload stalled."""


class TooBusy(ProblemError):
    """503: Too many at a time."""


class UploadTakenOver(ProblemError):
    """409: The same token sends the same bytes through another connection."""


class CorruptBytes(ProblemError):
    """500: Stored bytes are damaged."""


class EnvironmentInvalid(ProblemError):
    """422: The environment description is not valid."""


class EnvironmentUnsolvable(ProblemError):
    """422: No set of packages satisfies this."""


class PythonNotAvailable(ProblemError):
    """422: This Python is not to be had."""


class NameReserved(ProblemError):
    """409: The name is reserved."""


class NeedsImage(ProblemError):
    """409: This environment runs only in its image."""


class NoNode(ProblemError):
    """503: No node is ready."""


class OperationNotClaimable(ProblemError):
    """409: This operation is not to be claimed."""


class StaleAttempt(ProblemError):
    """409: This attempt is no longer the current one."""


class IdempotencyMismatch(ProblemError):
    """409: The Idempotency-Key was used for another request."""


class IdempotencyInFlight(ProblemError):
    """409: The first request with this key is still running."""


class SecretShownOnce(ProblemError):
    """409: The secret cannot be shown again."""


class PreconditionFailed(ProblemError):
    """412: It was changed in between."""


class RangeNotSatisfiable(ProblemError):
    """416: The range lies outside the file."""


class DependencyAway(ProblemError):
    """503: Something this API needs is away."""


class InternalError(ProblemError):
    """500: This is our mistake."""


def class_name(problem_id: str) -> str:
    """The name of a problem's exception: `stale-attempt` is `StaleAttempt`."""
    return "".join(word.capitalize() for word in problem_id.split("-"))


# A KeyError here means that a problem was added to the contracts without its class above.
CLASSES: dict[str, type[ProblemError]] = {problem_id: globals()[class_name(problem_id)] for problem_id in PROBLEMS}


def from_response(response: httpx2.Response) -> ProblemError:
    """The exception for an error answer whose body was read; ProblemError itself for what is not known here."""
    from pydantic import ValidationError  # noqa: PLC0415  (slow to import; the command line passes through here)

    from keelway.contracts.base import Problem  # noqa: PLC0415

    request_id = response.headers.get("x-request-id")
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return ProblemError(
            status=response.status_code,
            type="unknown",
            title=f"The answer was {response.status_code} {response.reason_phrase}".rstrip(),
            detail=response.text[:_BODY_SHOWN].strip(),
            request_id=request_id,
        )
    problem_id = problem.type.rstrip("/").rsplit("/", 1)[-1]
    return CLASSES.get(problem_id, ProblemError)(
        status=response.status_code,
        type=problem_id,
        title=problem.title,
        detail=problem.detail,
        fields=dict(problem.model_extra or {}),
        request_id=problem.request_id or request_id,
    )


def raise_unless_succeeded(operation: Operation) -> Operation:
    """The operation itself when it succeeded; OperationCancelled or OperationFailed otherwise."""
    if operation.state == "succeeded":
        return operation
    if operation.state == "cancelled":
        raise OperationCancelled(operation)
    raise OperationFailed(operation)


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
