"""The edge: what happens to every request before a handler sees it.

Deny by default: whatever is not on the short public list needs a token, also paths that do not exist.
"""

from __future__ import annotations

import re
import uuid
from time import perf_counter
from typing import Any

import structlog
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from keelway.contracts.base import WORKSPACE_NAME
from keelway.contracts.collected import MAX_COLLECTED_BYTES
from keelway_api import errors, metrics
from keelway_api.auth import service as auth
from keelway_api.errors import HostNotAllowed, Problem, TooLarge
from keelway_api.settings import ApiSettings

log = structlog.get_logger()

PUBLIC = re.compile(r"/livez|/readyz|/problems(/[a-z-]+)?")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,100}")
MAX_JSON_BYTES = 2**20
CLIENT_LEFT = 499  # for log and metrics only: nobody reads the answer
MAX_MANIFEST_BYTES = 48 * 2**20  # 100,000 files
MANIFESTS = re.compile(
    r"/v1/workspaces/[^/]+/"
    r"(models/[^/]+/versions(/[^/]+/signature)?|snapshots|experiments/[^/]+/runs/[^/]+/outputs)"
)
FORMS = re.compile(r"/v1/workspaces/[^/]+/models/[^/]+/versions:upload")
LOGS = re.compile(r"/v1/(nodes/[^/]+/(logs|observed)|operations/[^/]+/reports)")
MAX_LOG_BYTES = 8 * 2**20
COLLECTED = re.compile(r"/v1/nodes/[^/]+/replicas/[^/]+/collected/.+")
WORKSPACE = re.compile(f"/v1/workspaces/({WORKSPACE_NAME[1:-1]})(?=/|$)")
BLOBS = re.compile(r"/v1/blobs/[0-9a-f]+")


class Edge:
    """Request id, host check, body limit, authentication, access log and metrics: one plain ASGI layer."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is not one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = _request_id(request)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, has_begun = perf_counter(), 500, False

        async def answer(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                message["headers"] = [*message["headers"], *_standard_headers(request_id)]
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await self._serve(request, answer)
            except ClientDisconnect:
                status = CLIENT_LEFT
            except Exception as error:  # the edge: whatever it is, it is answered and logged once
                if has_begun:  # all that is left is to cut the connection, so that a short body is seen as such
                    log.error("answer cut off", exc_info=error.__cause__ or error)
                else:
                    await errors.bug(request, error)(scope, receive, answer)
            finally:
                metrics.observe(request, status, perf_counter() - started)
                _log(request, status, perf_counter() - started)

    async def _serve(self, request: Request, send: Send) -> None:
        try:
            self._check_host(request)
            # Not request.url.path: that one is put together with the Host header, which the caller writes.
            path = request.scope["path"]
            if not PUBLIC.fullmatch(path):
                await _authenticate(request)
            receive = _limited(request, _limit_of(path, self._settings))
        except Problem as problem:
            request_id = request.scope["state"]["request_id"]
            answer = errors.answer(problem, instance=request.scope["path"], request_id=request_id)
            await answer(request.scope, request.receive, send)
            return
        await self._app(request.scope, receive, send)

    def _check_host(self, request: Request) -> None:
        host = request.headers.get("host", "").lower()
        name = host.rsplit(":", 1)[0] if re.search(r":\d+$", host) else host
        if "*" not in self._settings.hosts and name not in self._settings.hosts:
            raise HostNotAllowed(f"The host {name!r} is not among KEELWAY_ALLOWED_HOSTS.", host=name)


async def _authenticate(request: Request) -> None:
    found = WORKSPACE.match(request.scope["path"])
    principal, workspace_id = await auth.authenticate(
        request.app.state.statements, request.headers.get("authorization"), found[1] if found else None
    )
    request.state.principal, request.state.workspace_id = principal, workspace_id


def _limit_of(path: str, settings: ApiSettings) -> int:
    if MANIFESTS.fullmatch(path):
        return MAX_MANIFEST_BYTES
    if LOGS.fullmatch(path):
        return MAX_LOG_BYTES
    if COLLECTED.fullmatch(path):
        return MAX_COLLECTED_BYTES
    if FORMS.fullmatch(path):
        return settings.max_form_bytes
    return settings.max_file_bytes if BLOBS.fullmatch(path) else MAX_JSON_BYTES


def _limited(request: Request, limit: int) -> Receive:
    """The request's body, refused as soon as it is known or seen to be too large."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > limit:
        raise TooLarge(limit)
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLarge(limit)
        return message

    return receive


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _standard_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]


def _log(request: Request, status: int, seconds: float) -> None:
    path = request.scope["path"]
    if PUBLIC.fullmatch(path) and status < 500:
        return
    fields: dict[str, Any] = {"method": request.method, "path": path, "status": status}
    principal = getattr(request.state, "principal", None)
    log.info("request", **fields, ms=round(seconds * 1000, 1), actor=principal.name if principal else None)
