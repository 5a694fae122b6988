"""One scoring request, from bytes to bytes: bind the arguments, call run(), encode what it returned."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Mapping

from keelway_runtime import log
from keelway_runtime.arguments import Call, arguments_for
from keelway_runtime.encode import encode
from keelway_runtime.schema import schema_of
from keelway_runtime.script import Script

RUN_FAILED = "The entry script failed on this request. The service's log has the traceback under this request id."


@dataclass(frozen=True)
class Answer:
    """What the caller gets. `run_ms` is None when run() was not called."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    run_ms: float | None = None
    has_run_failed: bool = False


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error in the one form all errors have."""
    return Answer(status, encode({"status_code": status, "message": message}), headers=headers or {})


class Scorer:
    """Scores requests with one loaded script."""

    def __init__(self, script: Script) -> None:
        self.schema = schema_of(script.run)
        self.is_async = script.is_async
        self._run = script.run
        self._arguments = arguments_for(script.run, self.schema)

    def score(self, call: Call) -> Answer:
        """Answer one call with a plain run(). Raises Refusal when the request does not fit."""
        arguments = self._arguments.bind(call)
        started = time.perf_counter()
        try:
            return _scored(self._run(**arguments), started)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to the user's code
            return _failed(error, started)

    async def score_async(self, call: Call) -> Answer:
        """Answer one call with an async run(). Raises Refusal when the request does not fit."""
        arguments = self._arguments.bind(call)
        started = time.perf_counter()
        try:
            return _scored(await self._run(**arguments), started)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to the user's code
            return _failed(error, started)


def _scored(value: Any, started: float) -> Answer:
    run_ms = _since(started)
    return Answer(200, encode(value), run_ms=run_ms)


def _failed(error: BaseException, started: float) -> Answer:
    """A 500 without detail: what the code says of itself belongs in the log, not on the wire."""
    run_ms = _since(started)
    log.event("run failed", error=type(error).__name__, traceback=log.user_traceback(error))
    answer = error_answer(500, RUN_FAILED)
    return Answer(500, answer.body, run_ms=run_ms, has_run_failed=True)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
