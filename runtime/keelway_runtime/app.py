"""The ASGI application: which path does what, and the headers every answer has."""

from __future__ import annotations

import time
from typing import Any, Awaitable, Callable
from urllib.parse import parse_qs

from keelway_runtime import log, metrics, swagger
from keelway_runtime.arguments import Call
from keelway_runtime.encode import encode
from keelway_runtime.refusal import Refusal
from keelway_runtime.request import ClientGone, Receive, Request
from keelway_runtime.scoring import Answer, Scorer, error_answer
from keelway_runtime.settings import Settings
from keelway_runtime.thread import ScoringThread

Send = Callable[[dict[str, Any]], Awaitable[None]]
TEXT = "text/plain; charset=utf-8"


class Application:
    """One server. Not ready until `scorer` is set, nor any more once `is_stopping`."""

    def __init__(self, settings: Settings, thread: ScoringThread) -> None:
        self.scorer: Scorer | None = None
        self.is_stopping = False
        self._settings = settings
        self._thread = thread
        self._metrics = metrics.Metrics()
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Request], Awaitable[Answer]]]] = {
            "/": (("GET", "HEAD"), self._ready),
            "/livez": (("GET", "HEAD"), self._live),
            "/readyz": (("GET", "HEAD"), self._ready),
            "/metrics": (("GET", "HEAD"), self._measured),
            "/swagger.json": (("GET", "HEAD"), self._described),
            "/score": (("GET", "POST"), self._scored),
        }

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request = Request(scope, receive)
        log.request_id.set(request.id)
        try:
            answer = await self._answer(request)
        except ClientGone:
            return
        except Refusal as refusal:
            answer = error_answer(refusal.status, refusal.message, refusal.headers)
        except Exception as error:  # noqa: BLE001 - the edge of the process
            log.event("server failed", traceback=log.user_traceback(error))
            answer = error_answer(500, "The server failed on this request.")
        await _send(answer, request, send)

    async def _answer(self, request: Request) -> Answer:
        request.check_ids()
        if request.path not in self._routes:
            raise Refusal(404, f"There is nothing at {request.path[:200]}")
        methods, handler = self._routes[request.path]
        allow = {"allow": ", ".join((*methods, "OPTIONS"))}
        if request.method == "OPTIONS":
            return Answer(200, b"", TEXT, allow)
        if request.method not in methods:
            raise Refusal(405, f"{request.method} is not allowed here, {allow['allow']} are", allow)
        return await handler(request)

    async def _live(self, request: Request) -> Answer:
        return Answer(200, b"Alive", TEXT)

    async def _ready(self, request: Request) -> Answer:
        if self.is_stopping:
            raise _unready("The service is stopping")
        self._loaded()
        return Answer(200, b"Healthy", TEXT)

    async def _measured(self, request: Request) -> Answer:
        return Answer(200, self._metrics.text().encode(), metrics.CONTENT_TYPE)

    async def _described(self, request: Request) -> Answer:
        version = parse_qs(request.query.decode("latin-1")).get("version", ["2"])[-1]
        service = self._settings.service_name
        return Answer(200, encode(swagger.document(request, self._loaded().schema, service=service, version=version)))

    async def _scored(self, request: Request) -> Answer:
        started = time.perf_counter()
        self._metrics.in_flight += 1
        try:
            answer = await self._score(request)
        except Refusal as refusal:
            answer = error_answer(refusal.status, refusal.message, refusal.headers)
        finally:
            self._metrics.in_flight -= 1
        self._metrics.count(status=answer.status, run_ms=answer.run_ms)
        ms = round((time.perf_counter() - started) * 1000, 3)
        log.event("request", method=request.method, path=request.path, status=answer.status, ms=ms)
        return answer

    async def _score(self, request: Request) -> Answer:
        scorer = self._loaded()
        body = await request.body(limit=self._settings.max_body_bytes)
        call = Call(request.method, request.query, request.headers, body)
        if scorer.is_async:
            return await scorer.score_async(call)
        return await self._thread.call(scorer.score, call)

    def _loaded(self) -> Scorer:
        if self.scorer is None:
            raise _unready("The service is still loading its model")
        return self.scorer


def _unready(message: str) -> Refusal:
    return Refusal(503, message, {"retry-after": "1"})


async def _send(answer: Answer, request: Request, send: Send) -> None:
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        ("x-ms-run-function-failed", str(answer.has_run_failed)),
        ("x-ms-run-fn-exec-ms", f"{answer.run_ms or 0:.3f}"),
        ("x-request-id", request.id),
        ("x-ms-request-id", request.client_id),
        ("x-ms-client-request-id", request.client_id),
        *answer.headers.items(),
    ]
    raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw_headers})
    if answer.status == 413:
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        await request.drain()
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": answer.body})
