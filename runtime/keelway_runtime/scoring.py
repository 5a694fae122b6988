"""One scoring request, from bytes to bytes: bind the arguments, call run(), encode what it returned."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import Any, Callable, Mapping, NamedTuple

from keelway_runtime import log
from keelway_runtime.arguments import Call, arguments_for
from keelway_runtime.encode import encode
from keelway_runtime.hints import hinted_schema
from keelway_runtime.rawhttp import RequestArguments, ResponseHeaders, is_asked_for, is_response, sent_headers
from keelway_runtime.refusal import Refusal
from keelway_runtime.schema import ServiceSchema, decorated_schema
from keelway_runtime.script import Script, ScriptError

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
RUN_FAILED = "The entry script failed on this request. The service's log has the traceback under this request id."


class Answer(NamedTuple):
    """What the caller gets. `run_ms` is None when run() was not called.

    A header may come several times: send what headers.items() gives.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] | ResponseHeaders = NO_HEADERS
    run_ms: float | None = None
    has_run_failed: bool = False


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error in the one form all errors have."""
    return Answer(status, encode({"status_code": status, "message": message}), headers=headers or NO_HEADERS)


class Scorer:
    """Scores requests with one loaded script. Raises ScriptError when it cannot be told how to call its run()."""

    def __init__(self, script: Script) -> None:
        decorated = decorated_schema(script.run)
        self.is_raw = script.schema is None and is_asked_for()
        if self.is_raw and decorated:
            raise ScriptError("run() cannot have both @rawhttp and @input_schema or @output_schema")
        found = script.schema or decorated
        self.schema = ServiceSchema() if self.is_raw else found or hinted_schema(script.run)
        self.is_async = script.is_async
        self.is_by_rows = script.schema is None or bool(script.batch_parameter)
        self.run = script.run
        self.arguments = RequestArguments(script.run) if self.is_raw else arguments_for(script.run, self.schema)

    def score(self, call: Call) -> Answer:
        """Answer one call with a plain run()."""
        bound = self.bind(call)
        return bound if isinstance(bound, Answer) else self.score_bound(bound, self.run)

    def bind(self, call: Call) -> dict[str, Any] | Answer:
        """What run() is to be called with, or the answer to a call that does not fit."""
        try:
            return self.arguments.bind(call)
        except Exception as error:  # noqa: BLE001 - a declared type may be the script's own
            return _failed(error, None)

    def score_bound(self, arguments: dict[str, Any], run: Callable[..., Any]) -> Answer:
        """Answer with what a plain run() gives for these arguments."""
        started = time.perf_counter()
        try:
            return scored(run(**arguments), started)
        except BaseException as error:  # noqa: BLE001 - the edge to the user's code; it may quit, cancel or interrupt itself
            return _failed(error, started)

    async def score_async(self, call: Call) -> Answer:
        """Answer one call with an async run()."""
        bound = self.bind(call)
        if isinstance(bound, Answer):
            return bound
        started = time.perf_counter()
        try:
            return scored(await self.run(**bound), started)
        except BaseException as error:  # noqa: BLE001 - the edge to the user's code; it may quit, cancel or interrupt itself
            return _failed(error, started)


def scored(value: Any, started: float) -> Answer:
    """The answer that gives back what run() returned."""
    run_ms = _since(started)
    if is_response(value):
        return _answered(value, run_ms)
    return Answer(200, encode(value), run_ms=run_ms)


def _answered(response: Any, run_ms: float) -> Answer:
    """The script's own answer. Raises ValueError for one that HTTP cannot carry."""
    status = int(response.status_code)
    if not 200 <= status <= 599:
        raise ValueError(f"the script answered with the status {status}, an answer has 200 to 599")
    body = b"" if status in (204, 304) else bytes(response.get_data())
    has_failed = status >= 500 or response.headers.get("x-ms-run-function-failed") == "True"
    content_type = str(response.headers.get("content-type") or "application/octet-stream")
    return Answer(status, body, content_type, sent_headers(response), run_ms, has_failed)


def _failed(error: BaseException, started: float | None) -> Answer:
    """The answer to a refusal, else a 500 without detail: what the code says of itself belongs in the log."""
    if isinstance(error, Refusal):
        return error_answer(error.status, error.message, error.headers)
    run_ms = None if started is None else _since(started)
    log.event("run failed", error=type(error).__name__, traceback=log.user_traceback(error))
    answer = error_answer(500, RUN_FAILED)
    return Answer(500, answer.body, run_ms=run_ms, has_run_failed=True)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
