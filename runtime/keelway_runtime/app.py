"""Which path does what, who may, and the headers that every answer has."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Callable
from urllib.parse import parse_qs

import orjson

from keelway_runtime import log, metrics, swagger
from keelway_runtime.access import Access
from keelway_runtime.http import Forget, Request
from keelway_runtime.messages import Reply, refusal
from keelway_runtime.pool import Job, Pool
from keelway_runtime.refusal import Refusal
from keelway_runtime.settings import Settings

TEXT = b"text/plain; charset=utf-8"
RETRY = "retry-after: 1\r\n"
READ_ONLY = ("GET", "HEAD")
ALLOWED_HEADERS = "Authorization, Content-Type, X-Request-Id, X-Ms-Client-Request-Id"
EXPOSED_HEADERS = "x-request-id, x-ms-request-id, x-ms-run-function-failed, x-ms-run-fn-exec-ms"
PREFLIGHT_S = 600
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Application:
    """One server. Not ready until a worker is, nor any more once `is_stopping`."""

    def __init__(self, settings: Settings, pool: Pool, access: Access) -> None:
        self.is_stopping = False
        self.metrics = metrics.Metrics()
        self._settings, self._pool, self._access = settings, pool, access
        self._own_documents = swagger.own_documents(settings)
        # Who brings up a revision waits until callers reach it, and no other.
        is_named = NAME.fullmatch(settings.revision) is not None
        self._revision = f"x-keelway-revision: {settings.revision}\r\n".encode() if is_named else b""
        pool.on_batch = self.metrics.batches.observe
        self._routes: dict[str, tuple[tuple[str, ...], bool, Callable[[Request], Reply]]] = {
            "/": (READ_ONLY, False, self._ready),
            "/livez": (READ_ONLY, False, lambda request: Reply(200, b"Alive", TEXT)),
            "/readyz": (READ_ONLY, False, self._ready),
            "/metrics": (READ_ONLY, False, self._measured),
            "/swagger.json": (READ_ONLY, True, self._described),
            "/score": (("GET", "POST"), True, self._ready),
        }

    def early(self, request: Request) -> Reply | None:
        """The answer to a request that needs no body: wrong path, wrong method, no key."""
        if request.path not in self._routes:
            return refusal(404, f"There is nothing at {request.path[:200]}")
        methods, is_guarded, _ = self._routes[request.path]
        if request.method not in methods and request.method != "OPTIONS":
            allow = ", ".join((*methods, "OPTIONS"))
            return refusal(405, f"{request.method} is not allowed here, {allow} are", f"allow: {allow}\r\n")
        if is_guarded and request.method != "OPTIONS":
            return self._access.refusal(request.headers.get(b"authorization"))
        return None

    def serve(self, request: Request, respond: Callable[[Reply], None]) -> Forget | None:
        """Answer a complete request; /score later, all else at once."""
        if request.method == "OPTIONS" and not self._is_for_script(request):
            methods = (*self._routes[request.path][0], "OPTIONS")
            respond(Reply(200, b"", TEXT, f"allow: {', '.join(methods)}\r\n".encode()))
            return None
        if request.path == "/score":
            return self._score(request, respond)
        try:
            respond(self._routes[request.path][2](request))
        except Refusal as refused:
            respond(refusal(refused.status, refused.message))
        return None

    def common_headers(self, request: Request, answer: Reply) -> bytes:
        """The headers of every answer; those that the script set itself come first and win."""
        headers = (
            f"x-ms-run-function-failed: {answer.has_run_failed}\r\n"
            f"x-ms-run-fn-exec-ms: {answer.run_ms or 0:.3f}\r\n"
            f"x-request-id: {request.id}\r\n"
            f"x-ms-request-id: {request.client_id}\r\n"
            f"x-ms-client-request-id: {request.client_id}\r\n"
        ).encode("latin-1")
        if self._settings.cors_origins:
            return answer.headers + headers + self._cors(request, answer.headers.lower())
        return answer.headers + headers

    # --- scoring

    def _score(self, request: Request, respond: Callable[[Reply], None]) -> Forget | None:
        self.metrics.in_flight += 1
        started = time.perf_counter()

        def finish(reply: Reply) -> None:
            self.metrics.in_flight -= 1
            seconds = time.perf_counter() - started
            self.metrics.count(
                status=reply.status, seconds=seconds, run_ms=reply.run_ms, has_run_failed=reply.has_run_failed
            )
            log.request(request.id, request.method, reply.status, seconds * 1000)
            respond(reply)

        if self._pool.about is None:
            finish(_loading())
            return None
        headers = request.for_script(is_whole=self._pool.about["needs_headers"])
        head = (request.id, request.method, request.path, request.query, headers)
        job = Job(head, request.pieces, finish)
        self._pool.submit(job)

        def forget() -> None:
            if job.forget():
                self.metrics.in_flight -= 1

        return forget

    def _is_for_script(self, request: Request) -> bool:
        """OPTIONS goes to a script that speaks raw HTTP, unless CORS is set here or the caller has no key."""
        is_raw = request.path == "/score" and bool(self._pool.about and self._pool.about["is_raw"])
        is_let_in = self._access.refusal(request.headers.get(b"authorization")) is None
        return is_raw and not self._settings.cors_origins and is_let_in

    # --- all else

    def _ready(self, request: Request) -> Reply:
        if self.is_stopping:
            return refusal(503, "The service is stopping", RETRY)
        if self._pool.about is None:
            return _loading()
        if not self._pool.is_ready:
            return refusal(503, "The service's worker ended and is started again", RETRY)
        return Reply(200, b"Healthy", TEXT, self._revision)

    def _described(self, request: Request) -> Reply:
        if self._pool.about is None:
            return _loading()
        version = parse_qs(request.query.decode("latin-1")).get("version", ["2"])[-1]
        if version in self._own_documents:
            return Reply(200, self._own_documents[version])
        schema = self._pool.about["schema"]
        return Reply(200, orjson.dumps(swagger.document(request, schema, self._settings.service_name, version)))

    def _measured(self, request: Request) -> Reply:
        pool = self._pool
        gauges: dict[str, tuple[str, str, float]] = {
            "keelway_queue_length": ("gauge", "Requests that no worker has yet.", pool.waiting),
            "keelway_workers_ready": ("gauge", "Workers that take requests.", pool.ready_workers),
            "keelway_worker_restarts_total": ("counter", "Workers started in place of one that ended.", pool.restarts),
            "keelway_collected_rows_dropped_total": ("counter", "Collected rows without room.", pool.dropped_rows),
        }
        text = self.metrics.text(pids=[os.getpid(), *pool.pids], gauges=gauges)
        return Reply(200, text, metrics.CONTENT_TYPE)

    # --- CORS

    def _cors(self, request: Request, set_by_script: bytes) -> bytes:
        """What a browser asks for, as far as the script does not say it itself."""
        origin, origins = request.header("origin"), self._settings.cors_origins
        headers: dict[str, Any] = {"vary": "Origin"} if "*" not in origins else {}
        if origin and ("*" in origins or origin in origins):
            headers["access-control-allow-origin"] = "*" if "*" in origins else origin
            if request.method == "OPTIONS":
                methods = self._routes.get(request.path, ((), False, None))[0]
                headers["access-control-allow-methods"] = ", ".join((*methods, "OPTIONS"))
                headers["access-control-allow-headers"] = ALLOWED_HEADERS
                headers["access-control-max-age"] = PREFLIGHT_S
            else:
                headers["access-control-expose-headers"] = EXPOSED_HEADERS
        lines = (f"{name}: {value}\r\n" for name, value in headers.items() if f"{name}:".encode() not in set_by_script)
        return "".join(lines).encode("latin-1")


def _loading() -> Reply:
    return refusal(503, "The service is still loading its model", RETRY)
