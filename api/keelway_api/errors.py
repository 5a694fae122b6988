"""Problems: every failure a caller can act on, and how each becomes an `application/problem+json` answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from keelway.contracts.problems import PROBLEMS

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
CONTENTION = {"55P03", "57014", "40P01", "40001"}  # lock not available, timed out, deadlock, serialization failure


class Problem(HTTPException):
    """Base of all: a subclass names its `type`, an id of `keelway.contracts.problems`.

    An HTTPException, since FastAPI turns any other exception that comes while it reads a body into a bare 400.
    """

    type = "internal-error"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **fields: Any) -> None:
        super().__init__(PROBLEMS[self.type].status, detail, headers)
        self.fields = fields


class Unauthenticated(Problem):
    """No token, or one that does not count."""

    type = "unauthenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="keelway"'})


class Forbidden(Problem):
    """The thing is visible, the role too low."""

    type = "forbidden"


class NotFound(Problem):
    """Not there, or not for these eyes: the same answer for both."""

    type = "not-found"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is no {kind} {name!r}.", kind=kind, name=name)


class MethodNotAllowed(Problem):
    """The path exists for other methods."""

    type = "method-not-allowed"

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        offer = ", ".join(allowed)
        super().__init__(f"This path takes {offer}, not {method}.", headers={"Allow": offer}, allowed=list(allowed))


class InvalidRequest(Problem):
    """A rule that the request's shape alone cannot say was broken; `errors` holds path and message of each."""

    type = "invalid-request"

    def __init__(self, path: str, message: str, *more: tuple[str, str]) -> None:
        errors = [{"path": at, "message": wrong} for at, wrong in ((path, message), *more)]
        super().__init__(f"{path}: {message}", errors=errors)


class TooLarge(Problem):
    """The body, or a file that a manifest announces, is larger than what is taken."""

    type = "too-large"

    def __init__(self, limit_bytes: int, path: str | None = None) -> None:
        what = "The body" if path is None else f"The file {path!r}"
        fields: dict[str, Any] = {} if path is None else {"path": path}
        super().__init__(f"{what} is larger than {limit_bytes} bytes.", limit_bytes=limit_bytes, **fields)


class HostNotAllowed(Problem):
    """A Host header that nobody configured: DNS rebinding, or a missing setting."""

    type = "host-not-allowed"


class WrongState(Problem):
    """The resource is there, but not in a state for this."""

    type = "wrong-state"

    def __init__(self, subject: str, state: str, wanted: str) -> None:
        super().__init__(f"{subject} is {state}; this needs {wanted}.", subject=subject, state=state)


class AlreadyExists(Problem):
    """The name is taken."""

    type = "already-exists"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"A {kind} {name!r} exists already.", kind=kind, name=name)


class InUse(Problem):
    """Others refer to it."""

    type = "in-use"

    def __init__(self, subject: str, used_by: Sequence[str]) -> None:
        named = ", ".join(used_by[:20])
        super().__init__(f"{subject} is used by {named}.", subject=subject, used_by=list(used_by[:200]))


class Immutable(Problem):
    """It was written once and cannot be written again."""

    type = "immutable"

    def __init__(self, subject: str, keys: Sequence[str]) -> None:
        super().__init__(f"{subject} are written once: {', '.join(keys)} cannot be changed.", keys=list(keys))


class ApprovalNeeded(Problem):
    """Nobody approved the version yet."""

    type = "approval-needed"

    def __init__(self, version: str) -> None:
        super().__init__(f"{version} must be approved before it is deployed.", version=version)


class SignatureInvalid(Problem):
    """What was sent is no signature of the version's files."""

    type = "signature-invalid"


class NotInspected(Problem):
    """The workspace has a policy about findings, and nobody has looked yet."""

    type = "not-inspected"

    def __init__(self, version: str) -> None:
        super().__init__(
            f"{version} was not inspected yet, and this workspace refuses versions by what is found.", version=version
        )


class UnsafeModel(Problem):
    """The workspace refuses what was found in the version."""

    type = "unsafe-model"

    def __init__(self, version: str, refused: str, findings: Sequence[dict[str, Any]]) -> None:
        named = "; ".join(f"{one['path']}: {one['code']}: {one['detail'][:200]}" for one in findings[:3])
        more = f" and {len(findings) - 3} more" if len(findings) > 3 else ""
        detail = f"This workspace refuses findings of {refused} and above; {version} has {named}{more}."
        super().__init__(detail, version=version, refused=refused, findings=list(findings[:20]))


class OutputConflict(Problem):
    """A run's output would stand in the way of another."""

    type = "output-conflict"

    def __init__(self, detail: str, paths: Sequence[str]) -> None:
        super().__init__(f"{detail}.", paths=list(paths[:20]))


class OutputNotFound(Problem):
    """Nothing among a run's outputs has this path."""

    type = "output-not-found"

    def __init__(self, run: str, path: str, files: Sequence[str]) -> None:
        listed = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
        has = f"{len(files)}: {listed}" if files else "none; an upload that is not committed does not count"
        super().__init__(f"Run {run} has no output {path!r}; it has {has}.", path=path, files=list(files[:50]))


class NoSuchChild(Problem):
    """No child of a run is the one that was asked for."""

    type = "no-such-child"

    def __init__(self, detail: str, available: Sequence[str | int]) -> None:
        offer = ", ".join(map(str, available)) or "none"
        super().__init__(f"{detail}; there are: {offer}.", available=list(available))


class BlobsMissing(Problem):
    """Commit was asked for, but some files were never uploaded."""

    type = "blobs-missing"

    def __init__(self, subject: str, paths: Sequence[str]) -> None:
        super().__init__(f"{len(paths)} file(s) of {subject} are not uploaded yet.", paths=list(paths[:20]))


class BlobNotExpected(Problem):
    """No open upload of the caller lists these bytes."""

    type = "blob-not-expected"


class DigestMismatch(Problem):
    """The bytes differ from what was announced."""

    type = "digest-mismatch"


class OffsetMismatch(Problem):
    """An upload cannot go on from there."""

    type = "offset-mismatch"

    def __init__(self, offset: int, received_bytes: int) -> None:
        super().__init__(
            f"{received_bytes} bytes are stored; an upload does not go on at {offset}.", received_bytes=received_bytes
        )


class UploadStalled(Problem):
    """No byte came for too long, or too few came in a while."""

    type = "upload-stalled"

    def __init__(self, idle_s: float, detail: str | None = None) -> None:
        super().__init__(detail or f"No byte came for {idle_s:g} s.", idle_s=idle_s)


class TooBusy(Problem):
    """Too many others do the same at this moment."""

    type = "too-busy"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_S)})


class UploadTakenOver(Problem):
    """Another connection sends these bytes now."""

    type = "upload-taken-over"


class CorruptBytes(Problem):
    """The store gave back other bytes than it was given."""

    type = "corrupt-bytes"


class EnvironmentInvalid(Problem):
    """A conda file or requirement that cannot be read; `line` says which."""

    type = "environment-invalid"

    def __init__(self, line: str, message: str) -> None:
        shown = line[:200]  # a quarter of a megabyte can stand on one
        super().__init__(f"{shown!r}: {message[:500]}", line=shown)


class EnvironmentUnsolvable(Problem):
    """The resolver found no set of packages."""

    type = "environment-unsolvable"


class PythonNotAvailable(Problem):
    """No node, or no channel, has this interpreter."""

    type = "python-not-available"

    def __init__(self, wanted: str, available: Sequence[str], *, where: str = "No node") -> None:
        offer = ", ".join(available) or "none"
        super().__init__(
            f"{where} has Python {wanted}; available: {offer}. "
            "python_version (--python) overrides what a file asks for.",
            wanted=wanted,
            available=list(available),
        )


class NameReserved(Problem):
    """The name is for what Keelway, or the old system, makes itself."""

    type = "name-reserved"

    def __init__(self, name: str, beginnings: Sequence[str]) -> None:
        offer = ", ".join(beginnings)
        super().__init__(
            f"{name!r} cannot be registered: names that begin with {offer} are for curated environments.", name=name
        )


class NeedsImage(Problem):
    """The environment has no packages of ours, or something else asks for an image: it can only run in one."""

    type = "needs-image"

    def __init__(self, environment: str, what: str, because: str = "uses its image's own Python") -> None:
        super().__init__(
            f"{environment} {because}: {what} needs a target that runs images.",
            environment=environment,
        )


class NoNode(Problem):
    """There is nobody to do the work."""

    type = "no-node"

    def __init__(self) -> None:
        super().__init__("No node is ready.", headers={"Retry-After": str(RETRY_AFTER_S)})


class OperationNotClaimable(Problem):
    """Somebody else's, finished, or out of attempts."""

    type = "operation-not-claimable"


class StaleAttempt(Problem):
    """A report of an attempt that is no longer the current one."""

    type = "stale-attempt"

    def __init__(self, operation_id: object, epoch: int) -> None:
        super().__init__(f"Attempt {epoch} of operation {operation_id} is no longer the current one.")


class IdempotencyMismatch(Problem):
    """One key, two requests."""

    type = "idempotency-mismatch"


class IdempotencyInFlight(Problem):
    """The first request with this key has not ended yet."""

    type = "idempotency-in-flight"


class SecretShownOnce(Problem):
    """The request was carried out before, and its answer held a secret that is not kept."""

    type = "secret-shown-once"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"The first request with this key made {id!r}; its secret stood in that answer only. "
            "If that never arrived, revoke it and create another, with a new key.",
            id=id,
        )


class PreconditionFailed(Problem):
    """If-Match did not match."""

    type = "precondition-failed"


class RangeNotSatisfiable(Problem):
    """The range lies outside the file."""

    type = "range-not-satisfiable"

    def __init__(self, size_bytes: int) -> None:
        headers = {"Content-Range": f"bytes */{size_bytes}"}
        super().__init__(f"The file has {size_bytes} bytes.", headers=headers, size_bytes=size_bytes)


class DependencyAway(Problem):
    """Postgres, the object store or the resolver cannot be reached now."""

    type = "dependency-away"

    def __init__(self, dependency: str, detail: str | None = None) -> None:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        super().__init__(detail or f"{dependency} cannot be reached.", headers=headers, dependency=dependency)


def answer(problem: Problem, *, instance: str, request_id: str) -> JSONResponse:
    """The problem document for one request. Why something is away is for the log: callers are told only what is."""
    if isinstance(problem, DependencyAway):
        log.warning("dependency away", **problem.fields, cause=_names(problem), request_id=request_id)
    kind = PROBLEMS[problem.type]
    body = {
        "type": f"/problems/{problem.type}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "instance": instance,
        "request_id": request_id,
        **problem.fields,
    }
    return ProblemResponse(body, kind.status, headers=problem.headers)


class ProblemResponse(JSONResponse):
    """It may quote what nothing can be encoded of: half of a surrogate pair, which JSON can say by an escape alone."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """The body; surrogates as escapes, all else as it is."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode(errors="backslashreplace")


def _names(error: BaseException) -> str:
    """What kinds of errors led to this one. Not their words: a signed address is among those of the object store."""
    names, cause = [], error.__cause__
    while cause is not None and len(names) < 5:
        code = getattr(cause, "code", None) or getattr(cause, "sqlstate", None)
        names.append(type(cause).__name__ + (f" {code}" if code else ""))
        reason = getattr(cause, "reason", None)  # where urllib3 keeps what it gave up for
        cause = reason if isinstance(reason, BaseException) else cause.__cause__
    return " < ".join(names)


def request_id_of(request: Request) -> str:
    """The id that the edge gave this request."""
    return request.scope.get("state", {}).get("request_id", "")


def _for(request: Request, problem: Problem) -> JSONResponse:
    return answer(problem, instance=request.scope["path"], request_id=request_id_of(request))


def _path_of(location: Sequence[str | int]) -> str:
    """`("body", "files", 0, "path")` as `body.files[0].path`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


async def _on_problem(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Problem)
    return _for(request, problem)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_described(found) for found in error.errors()[:50]]
    first = errors[0] if errors else {"path": "body", "message": "malformed"}
    problem = InvalidRequest(first["path"], first["message"])
    problem.fields = {"errors": errors}
    return _for(request, problem)


def _described(found: Any) -> dict[str, str]:
    if found["type"] == "json_invalid":
        return {"path": "body", "message": f"not JSON: {found['ctx']['error']}, at character {found['loc'][-1]}"}
    return {"path": _path_of(found["loc"]), "message": found["msg"]}


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _for(request, NotFound("path", request.scope["path"]))
    if error.status_code == 405:
        return _for(request, MethodNotAllowed(request.method, _allowed(request)))
    return _for(request, InvalidRequest("body", str(error.detail)))  # FastAPI: the body is not JSON at all


def _allowed(request: Request) -> list[str]:
    """All methods of a path: Starlette names only those of the first route that has it."""
    contexts = [route for route in iter_route_contexts(request.app.routes) if route.path]
    has = [route for route in contexts if compile_path(route.path or "")[0].match(request.scope["path"])]
    return sorted({method for route in has for method in route.methods or ()})


def is_outage(error: BaseException) -> bool:
    """True when the database was away, as opposed to refusing what we asked."""
    if isinstance(error, PoolTimeout | InterfaceError | ConnectionError):
        return True
    if isinstance(error, OperationalError):
        return not is_contention(error)
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_contention(error: BaseException) -> bool:
    """True when a statement waited too long, or lost against another: it may well work when it is tried again."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in CONTENTION


async def _on_database(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, DataError):  # NUL in a text, half a character in JSON, a number that fits no column
        return _for(request, InvalidRequest("request", "it holds a character or a number that cannot be stored"))
    if not (is_outage(error) or is_contention(error)):
        return bug(request, error)
    away = DependencyAway("postgres")
    away.__cause__ = getattr(error, "orig", None) or error  # without the statement and its parameters
    return _for(request, away)


def bug(request: Request, error: Exception) -> JSONResponse:
    """The answer to what nobody foresaw: the log has the traceback, the caller its id and nothing else."""
    log.error("internal error", request_id=request_id_of(request), exc_info=error)
    return _for(request, Problem("The log of the API holds the cause under this request id."))


def install(app: FastAPI) -> None:
    """Every way a request can fail answers with a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DBAPIError, _on_database)
    app.add_exception_handler(PoolTimeout, _on_database)
    app.add_exception_handler(ConnectionError, _on_database)
