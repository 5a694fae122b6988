"""One HTTP request as ASGI brings it, read no further than needed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import cached_property
from typing import Any, AsyncIterator, Awaitable, Callable
from uuid import uuid4

from keelway_runtime.refusal import Refusal

Receive = Callable[[], Awaitable[Any]]

ID_LENGTH_MAX = 100
ID_HEADERS = ("x-request-id", "x-ms-client-request-id")
DRAIN_S = 1.0


class ClientGone(Exception):  # noqa: N818
    """The caller hung up before its request was complete."""


class Request:
    """Path, headers and body of one request."""

    def __init__(self, scope: dict[str, Any], receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.scheme: str = scope["scheme"]
        self._raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive

    @cached_property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name; repeated ones joined by a comma, as RFC 9110 5.3 has it."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._raw_headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    @cached_property
    def id(self) -> str:
        """The caller's own request id, or a new one where it sent none or one that is too long."""
        given = self.headers.get("x-request-id", "")
        return given if 0 < len(given) <= ID_LENGTH_MAX else str(uuid4())

    @cached_property
    def client_id(self) -> str:
        """The id under which the caller's own client logs this request."""
        given = self.headers.get("x-ms-client-request-id", "")
        return given if 0 < len(given) <= ID_LENGTH_MAX else self.id

    def check_ids(self) -> None:
        """Raises Refusal 431 for an id header that is too long to log and echo."""
        for name in ID_HEADERS:
            if len(self.headers.get(name, "")) > ID_LENGTH_MAX:
                raise Refusal(431, f"The header {name} must not exceed {ID_LENGTH_MAX} characters")

    async def body(self, *, limit: int) -> bytes:
        """The whole body. Raises Refusal 413 past `limit` bytes, at once if Content-Length says so already."""
        declared = self.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        chunks, size = [], 0
        async for chunk in self._chunks():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
        return b"".join(chunks)

    async def drain(self) -> None:
        """Discard the rest of the body for a moment.

        Most clients read the answer only after sending everything; closing on them at once would reset the
        connection, and they would see that instead of the 413.
        """
        with suppress(asyncio.TimeoutError, ClientGone):
            await asyncio.wait_for(self._discard(), DRAIN_S)

    async def _discard(self) -> None:
        async for _ in self._chunks():
            pass

    async def _chunks(self) -> AsyncIterator[bytes]:
        is_more = True
        while is_more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            is_more = message.get("more_body", False)
            yield message.get("body", b"")


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body exceeds {limit} bytes", {"connection": "close"})
