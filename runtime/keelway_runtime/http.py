"""One connection: bytes to requests and answers to bytes. The parsing is llhttp's, by httptools.

Everything a caller can make grow or last has a bound here: headers, framing, bodies, pipelines, and the time for each.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import traceback
from collections import deque
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Callable, Protocol
from urllib.parse import unquote

import httptools

from keelway_runtime import log
from keelway_runtime.messages import Reply, refusal

HEAD_BYTES, HEAD_COUNT, TARGET_BYTES = 32 * 1024, 100, 8 * 1024
FRAMING_BYTES = 64 * 1024  # of chunk sizes, extensions and trailers, beyond the body's own size
SMALL_BODY = 64 * 1024  # read to its end though the request is refused, to keep the connection
LARGE_BODY = 64 * 1024
SMALL_PIECE = 4096
READ_BYTES = 256 * 1024
HELD_BYTES = 256 * 1024 * 1024  # of bodies that are read or scored, of all connections
PIPELINE = 8
HEAD_S, BODY_S, BYTES_PER_S = 10.0, 30.0, 4096
# Longer than a gateway keeps idle connections (Traefik: 90 s), so that never both sides act at once.
KEEP_ALIVE_S = 120.0
WRITE_S = 60.0
BUG = "The server failed on this request. Its log has the traceback."
RETRY = "retry-after: 1\r\n"
DRAIN_S = 1.0
ID_LENGTH_MAX = 100
ID_HEADERS = (b"x-request-id", b"x-ms-client-request-id")
FRAMING = (b"transfer-encoding", b"content-length")
AS_POST = b"POST / HTTP/1.1\r\nconnection: close\r\n%b: %b\r\n\r\n"
NO_BODY = {204, 304}
ADDRESSES = 256
_PROCESS = "{:08x}-{:04x}-{:04x}-{:04x}-".format(*map(random.getrandbits, (32, 16, 16, 16)))
_requests = itertools.count()
STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Request:
    """One request. Headers by lower-case name, as bytes; repeated ones joined by a comma (RFC 9110, 5.3)."""

    __slots__ = (
        "client_id",
        "headers",
        "id",
        "is_complete",
        "keep_alive",
        "method",
        "path",
        "pieces",
        "query",
        "refused",
    )

    def __init__(self) -> None:
        self.method = self.path = self.id = self.client_id = ""
        self.query = b""
        self.pieces: list[bytes] = []  # of the body, as they came
        self.headers: dict[bytes, bytes] = {}
        self.keep_alive = False
        self.is_complete = False
        self.refused: Reply | None = None

    def header(self, name: str, default: str = "") -> str:
        """A header's value."""
        value = self.headers.get(name.encode())
        return default if value is None else value.decode("latin-1")

    @property
    def body_bytes(self) -> int:
        """Size of the body."""
        return sum(map(len, self.pieces))

    def keep(self, data: bytes) -> None:
        """Take a piece of the body; small ones are put together, as each takes more memory than it holds."""
        if self.pieces and len(self.pieces[-1]) < SMALL_PIECE:
            self.pieces[-1] += data
        else:
            self.pieces.append(data)

    def for_script(self, *, is_whole: bool) -> dict[str, str]:
        """The headers as text: all, or the content type alone, which most scripts need no more than."""
        if is_whole:
            return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers.items()}
        kind = self.headers.get(b"content-type")
        return {} if kind is None else {"content-type": kind.decode("latin-1")}

    def take_ids(self) -> str | None:
        """Find the ids that the caller gave; the name of one that is too long to log and echo."""
        own, client = self.headers.get(ID_HEADERS[0], b""), self.headers.get(ID_HEADERS[1], b"")
        self.id = own.decode("latin-1") if 0 < len(own) <= ID_LENGTH_MAX else _new_id()
        self.client_id = client.decode("latin-1") if 0 < len(client) <= ID_LENGTH_MAX else self.id
        if len(own) > ID_LENGTH_MAX or len(client) > ID_LENGTH_MAX:
            return (ID_HEADERS[0] if len(own) > ID_LENGTH_MAX else ID_HEADERS[1]).decode()
        return None


Forget = Callable[[], None]


class Service(Protocol):
    """What requests are for."""

    def early(self, request: Request) -> Reply | None:
        """The answer to a request of which only the headers are known, when the body cannot change it."""
        ...

    def serve(self, request: Request, respond: Callable[[Reply], None]) -> Forget | None:
        """Answer a complete request, now or later, once. What is returned is called when nobody waits any more."""
        ...

    def common_headers(self, request: Request, answer: Reply) -> bytes:
        """Headers that every answer has."""
        ...


class Connections:
    """All open connections of a server, and their clock."""

    def __init__(self, service: Service, *, max_connections: int, max_body_bytes: int) -> None:
        self.service = service
        self.max_body_bytes, self.held_bytes = max_body_bytes, 0
        self.max_held_bytes = HELD_BYTES + 2 * max_body_bytes
        self.is_closing = False
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._max = max_connections
        self._open: dict[Connection, None] = {}  # in the order in which they came
        self.date = b""
        self.sweep()

    def new(self) -> Connection:
        """A connection for a caller who has just come."""
        return Connection(self)

    def add(self, connection: Connection) -> bool:
        """Whether there is room for one more; one that only waits gives its place up for it."""
        if len(self._open) >= self._max:
            idle = next((one for one in self._open if one.is_idle), None)
            if idle is None:
                return False
            self.remove(idle)
            idle.abort()
        self._open[connection] = None
        return True

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        self._open.pop(connection, None)

    def sweep(self) -> None:
        """Once a second: end what lasts too long."""
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        now = time.monotonic()
        for connection in [one for one in self._open if one.deadline < now]:
            connection.expire()

    def close_idle(self) -> bool:
        """While the server stops: close what waits for nothing; whether all are closed."""
        self.is_closing = True
        for connection in list(self._open):
            if connection.is_idle:
                connection.close()
        return not self._open

    def abort(self) -> None:
        """Close all at once."""
        for connection in list(self._open):
            connection.abort()


class Connection(asyncio.BufferedProtocol):
    """One caller. Requests are answered in their order; those that come before that wait."""

    def __init__(self, connections: Connections) -> None:
        self.deadline = time.monotonic() + HEAD_S
        self._all = connections
        self._service = connections.service
        self._transport: Any = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._incoming: Request | None = None
        self._target = b""
        self._has_head = False
        self._body_bytes = 0
        self._message_bytes = 0
        self._head_bytes = 0
        self._head_count = 0
        self._body_began = 0.0
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._fault: Reply | None = None  # the last answer, to what cannot be read
        self._is_deaf = False  # nothing more is read, only thrown away
        self._is_closing = False
        self._is_paused = False
        self._is_full = False  # it does not read what we write
        self._unsent_bytes = 0
        self._is_answering = False
        self._forget: Forget | None = None
        self._held_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun, and every answer is on its way."""
        has_begun = self._incoming is not None or self._current is not None or self._waiting or self._head_bytes
        return not has_begun and not self._transport.get_write_buffer_size()

    # --- what asyncio calls

    def connection_made(self, transport: Any) -> None:
        """A caller has come."""
        self._transport = transport
        if not self._all.add(self):
            self._is_deaf = True
            self._write(_unread(), refusal(503, "The service has too many connections", RETRY), is_last=True)
            transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where bytes are read to: one place for all connections, as what comes is looked at before more is read."""
        return self._all.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of one request or of several."""
        self._read(self._all.buffer[:nbytes])

    def _read(self, data: memoryview) -> None:
        if self._is_deaf:
            return
        self._message_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            self._end_with_bug(error.__context__ or error)
            return
        except httptools.HttpParserError as error:
            self._end_with(refusal(400, f"This is not HTTP: {_reason(error)}"))
            return
        if self._is_deaf:
            return
        if not self._has_head:
            if self._message_bytes - self._head_bytes > HEAD_BYTES:  # a header that does not end
                self._end_with(refusal(431, f"The headers exceed {HEAD_BYTES} bytes"))
        elif self._message_bytes > FRAMING_BYTES + HEAD_BYTES + 2 * self._body_bytes:
            self._end_with(refusal(400, "The body's chunks have more framing than content"))
        elif self._incoming is not None and self._current is None:
            self.deadline = self._body_began + BODY_S + self._body_bytes / BYTES_PER_S

    def eof_received(self) -> bool:
        """The caller sends no more; it may still read."""
        self._is_deaf = self._is_closing = True
        return self._current is not None or bool(self._waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._all.remove(self)
        self._all.held_bytes -= self._held_bytes
        self._is_deaf = self._is_closing = True
        self._transport = None
        self._waiting.clear()
        if self._forget:
            self._forget()
        self._parser = self._incoming = self._current = self._forget = None  # no cycles, which keep bodies for long

    def pause_writing(self) -> None:
        """The caller reads slower than we write: until it has read, nothing more is answered or read from it."""
        self._is_full = True
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self.deadline = time.monotonic() + WRITE_S
        self._pause_reading()

    def resume_writing(self) -> None:
        """It has read."""
        self._is_full = False
        self._answer_waiting()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        if self._is_deaf or self._is_closing:  # nothing is answered after the last answer
            self._is_deaf = True
            return
        self._incoming = Request()
        self._target, self._has_head = b"", False
        self._body_bytes = self._head_bytes = self._head_count = 0
        if self._current is None:
            self.deadline = time.monotonic() + HEAD_S

    def on_url(self, target: bytes) -> None:
        self._target += target
        self._head_bytes += len(target)
        if len(self._target) > TARGET_BYTES:
            self._end_with(refusal(414, f"The address exceeds {TARGET_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_deaf or self._has_head:  # a trailer
            return
        assert self._incoming is not None
        self._head_bytes += len(name) + len(value)
        self._head_count += 1
        if self._head_bytes > HEAD_BYTES or self._head_count > HEAD_COUNT:
            self._end_with(refusal(431, f"There are more than {HEAD_COUNT} headers or {HEAD_BYTES} bytes of them"))
            return
        headers, name = self._incoming.headers, name.lower()
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        if self._is_deaf:
            return
        request, self._has_head = self._incoming, True
        assert request is not None
        self._body_began = time.monotonic()
        version = self._parser.get_http_version()
        is_old = version == "1.0"  # callers that know neither kept connections nor 100
        request.keep_alive = self._parser.should_keep_alive() and not is_old and not self._parser.should_upgrade()
        wrong = self._read_head(request, version)
        request.refused = wrong or self._service.early(request) or self._too_large(request)
        expects = request.headers.get(b"expect", b"").lower() == b"100-continue" and not is_old
        if request.refused is None:
            if expects and self._current is None and not self._waiting:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif expects or self._has_large_body(request):
            self._refuse_unread(request)

    def on_body(self, data: bytes) -> None:
        if self._is_deaf:
            return
        assert self._incoming is not None
        self._body_bytes += len(data)
        if self._incoming.refused is not None:
            return
        self._incoming.keep(data)
        self._hold(len(data))
        if self._body_bytes > self._all.max_body_bytes:
            self._incoming.refused = _too_large(self._all.max_body_bytes)
        elif self._all.held_bytes > self._all.max_held_bytes:
            self._incoming.refused = refusal(503, "The service is busy: it holds too many bodies", RETRY)
        else:
            return
        self._hold(-self._body_bytes)
        self._incoming.pieces = []
        self._refuse_unread(self._incoming)

    def on_message_complete(self) -> None:
        request = self._incoming
        if self._is_deaf or request is None or (self._parser.should_upgrade() and _has_body(request)):
            return  # the parser leaves the body of a request that asks for another protocol
        self._incoming = None
        request.is_complete = True
        self._has_head = False
        self._message_bytes = self._head_bytes = 0
        self._accept(request)

    # --- reading

    def _read_head(self, request: Request, version: str) -> Reply | None:
        request.method = self._parser.get_method().decode("latin-1")
        too_long = request.take_ids()
        try:
            request.path, request.query = _address(self._target)
        except httptools.HttpParserInvalidURLError:
            return refusal(400, "The request's address cannot be read")
        if version not in ("1.1", "1.0"):
            return refusal(505, "This server speaks HTTP/1.1")
        host = request.headers.get(b"host")
        if b"," in (host or b"") or (host is None and version == "1.1"):
            return refusal(400, "There must be one header Host")
        if request.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            return refusal(501, "Of all transfer codings, this server reads only chunked")
        if too_long:
            return refusal(431, f"The header {too_long} must not exceed {ID_LENGTH_MAX} characters")
        return None

    def _too_large(self, request: Request) -> Reply | None:
        length = request.headers.get(b"content-length", b"0")
        return _too_large(self._all.max_body_bytes) if int(length) > self._all.max_body_bytes else None

    def _has_large_body(self, request: Request) -> bool:
        length = request.headers.get(b"content-length")
        return b"transfer-encoding" in request.headers or int(length or 0) > SMALL_BODY

    def _refuse_unread(self, request: Request) -> None:
        """Answer before the body is read, and read no more of it than a client needs to see the answer.

        Most clients read only after sending everything; closing on them at once would reset the connection.
        """
        self._is_deaf = True
        self._incoming = None
        request.keep_alive = False
        self._accept(request)

    def _go_on_without_upgrade(self, rest: memoryview) -> None:
        """Answer as if no other protocol had been asked for, as some clients do in every request, and then close."""
        request, self._is_deaf = self._incoming, True
        if request is None:
            return
        framing = next(name for name in FRAMING if name in request.headers)
        self._parser = httptools.HttpRequestParser(self)  # it is told only where the body ends
        self._parser.feed_data(AS_POST % (framing, request.headers[framing]))
        self._is_deaf = False
        self._message_bytes -= len(rest)
        self._read(rest)

    def _hold(self, size: int) -> None:
        self._held_bytes += size
        self._all.held_bytes += size

    def _accept(self, request: Request) -> None:
        self._waiting.append(request)
        if len(self._waiting) >= PIPELINE:
            self._pause_reading()
        self._answer_waiting()

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _end_with(self, fault: Reply) -> None:
        """Answer what cannot be read, after all that was asked before it, and close."""
        if self._fault is None and not self._is_deaf:
            self._is_deaf, self._fault, self._incoming = True, fault, None
            self._answer_waiting()

    def _end_with_bug(self, error: BaseException) -> None:
        """An error of ours: no caller's fault, and whatever waits here is not to be trusted any more."""
        log.event(
            "bug",
            error=type(error).__name__,
            traceback="".join(traceback.format_exception(type(error), error, error.__traceback__)),
        )
        self._current, self._is_answering = None, False
        self._waiting.clear()
        self._end_with(refusal(500, BUG))
        if self._fault is None:
            self.abort()

    # --- answering

    def _answer_waiting(self) -> None:
        """Go on with what came first, unless an answer is still to come: a loop, as many are answered at once."""
        if self._is_answering:
            return
        self._is_answering = True
        while self._waiting and self._current is None and not self._is_full and self._transport is not None:
            self._begin(self._waiting.popleft())
        self._is_answering = False
        if self._current is not None or self._is_full or self._transport is None:
            return
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if self._fault is not None and not self._is_closing:
            self._answer_fault()
        else:
            self._wait_for_next()

    def _begin(self, request: Request) -> None:
        self._current = request
        self.deadline = float("inf")
        if request.refused is not None:
            self._respond(request, request.refused)
        else:
            self._forget = self._service.serve(request, lambda answer: self._respond(request, answer))

    def _respond(self, request: Request, answer: Reply) -> None:
        if self._transport is None or self._current is not request:
            return
        self._current = self._forget = None
        self._hold(-request.body_bytes)
        is_last = not request.keep_alive or self._all.is_closing or (self._is_closing and not self._waiting)
        self._write(request, answer, is_last=is_last)
        if is_last:
            self._waiting.clear()
            self._finish(is_drained=not request.is_complete)
        else:
            self._answer_waiting()

    def _answer_fault(self) -> None:
        assert self._fault is not None
        self._write(_unread(), self._fault, is_last=True)
        self._finish(is_drained=True)

    def _finish(self, *, is_drained: bool) -> None:
        """Close after the last answer: at once, or when the caller has had a moment to stop sending and to read."""
        self._is_deaf = self._is_closing = True
        self.deadline = time.monotonic() + (DRAIN_S if is_drained else WRITE_S)
        if is_drained:
            if self._transport.can_write_eof():
                self._transport.write_eof()
        else:
            self._transport.close()

    def _wait_for_next(self) -> None:
        if not self._is_deaf:
            self._body_began = time.monotonic()
            self.deadline = self._body_began + (HEAD_S if self._incoming else KEEP_ALIVE_S)

    def _write(self, request: Request, answer: Reply, *, is_last: bool) -> None:
        status, body = answer.status, answer.body
        head = [STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status, self._all.date]
        if status not in NO_BODY:
            head += (b"content-type: ", answer.content_type, b"\r\ncontent-length: %d\r\n" % len(body))
        head.append(self._service.common_headers(request, answer))
        head.append(b"connection: close\r\n\r\n" if is_last else b"\r\n")
        if request.method == "HEAD" or status in NO_BODY:
            body = b""
        if len(body) < LARGE_BODY:
            head.append(body)
            self._transport.write(b"".join(head))
        else:
            self._transport.write(b"".join(head))
            self._transport.write(body)

    # --- ending

    def expire(self) -> None:
        """Its time is over, unless it reads what it was answered, however slowly."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if self._is_full and unsent_bytes < self._unsent_bytes - WRITE_S * BYTES_PER_S:
            self._unsent_bytes, self.deadline = unsent_bytes, time.monotonic() + WRITE_S
        elif self._is_deaf or self._incoming is None:
            self.abort()
        else:
            self._end_with(refusal(408, "The request did not come in time"))

    def close(self) -> None:
        """Close it when all is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()


def _too_large(limit: int) -> Reply:
    return refusal(413, f"The body exceeds {limit} bytes")


@lru_cache(ADDRESSES)
def _address(target: bytes) -> tuple[str, bytes]:
    """Path and query. Raises HttpParserInvalidURLError."""
    url = httptools.parse_url(target)
    path = (url.path or b"/").decode("latin-1")
    return unquote(path) if "%" in path else path, url.query or b""


def _new_id() -> str:
    """An id in the form of a UUID, which nobody gave before; it is no secret."""
    return f"{_PROCESS}{next(_requests):012x}"


def _has_body(request: Request) -> bool:
    return b"transfer-encoding" in request.headers or int(request.headers.get(b"content-length", b"0")) > 0


def _unread() -> Request:
    request = Request()
    request.take_ids()
    return request


def _reason(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
