"""What the front process and a worker say to each other over a socket pair.

To a worker: requests, marshalled (both ends are the same interpreter). From a worker: replies in a
fixed form, since the user's code could write there too and nothing it writes may harm the front.
"""

from __future__ import annotations

import marshal
import struct
from typing import Any, Callable, Iterable, Iterator, NamedTuple

import orjson

REQUESTS = struct.Struct("<II")  # length of the requests, and of the last one's body behind them
ANSWER = struct.Struct("<QIIIHHBd")  # number, lengths of type, headers and body, status, batch, flags, run_ms
COUNT = struct.Struct("<Q")  # of begun requests, in memory that both processes see
FAILED = 1
NOT_RUN = -1.0
ABOUT_ITSELF = 0  # the number of what a worker says without having been asked; its batch is the kind
READY, DROPPED = 1, 2
HEAD_MAX = 256 * 1024
LARGE_BODY = 16 * 1024


class ChannelError(Exception):
    """The other end does not keep to the form."""


class Asked(NamedTuple):
    """A request as the worker gets it. `headers` by lower-case name."""

    number: int
    id: str
    method: str
    path: str
    query: bytes
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """An answer as it goes to the caller. `headers`: complete lines. `run_ms` is None when run() was not called.

    `batch`: how many were scored at once, told with the first of them.
    """

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: bytes = b""
    run_ms: float | None = None
    has_run_failed: bool = False
    number: int = 0
    batch: int = 0


def refusal(status: int, message: str, headers: str = "", *, has_run_failed: bool = False) -> Reply:
    """An error in the one form all errors have."""
    body = orjson.dumps({"status_code": status, "message": message})
    return Reply(status, body, headers=headers.encode("latin-1"), has_run_failed=has_run_failed)


def request_frames(asked: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """The bytes of requests, each a tuple as Asked but with its body in pieces.

    Many go in one frame; a large body comes behind its frame, so that it is not copied.
    """
    found: list[bytes] = []
    together: list[tuple[Any, ...]] = []
    for *head, pieces in asked:
        size = sum(map(len, pieces))
        if size < LARGE_BODY:
            together.append((*head, pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        else:
            found += _frame([*together, (*head, b"")], size), *pieces
            together = []
    return [*found, _frame(together)] if together else found


def _frame(requests: list[tuple[Any, ...]], last_body_size: int = 0) -> bytes:
    packed = marshal.dumps(requests)
    return REQUESTS.pack(len(packed), last_body_size) + packed


def read_requests(read: Callable[[int], bytes], start: bytes = b"") -> list[Asked]:
    """The requests of one frame; `read` gives exactly so many bytes, `start` is what was read of it already."""
    size, body_size = REQUESTS.unpack(start + read(REQUESTS.size - len(start)))
    requests = marshal.loads(read(size))  # noqa: S302 - the front wrote it
    if body_size:
        requests[-1] = (*requests[-1][:-1], read(body_size))
    return list(map(Asked._make, requests))


def reply_frame(reply: Reply) -> bytes:
    """A reply's bytes."""
    run_ms = NOT_RUN if reply.run_ms is None else reply.run_ms
    lengths = len(reply.content_type), len(reply.headers), len(reply.body)
    flags = FAILED if reply.has_run_failed else 0
    packed = ANSWER.pack(reply.number, *lengths, reply.status, reply.batch, flags, run_ms)
    return b"".join((packed, reply.content_type, reply.headers, reply.body))


def replies_in(buffer: bytearray, *, body_max: int) -> Iterator[Reply]:
    """Take all complete replies off the buffer's front. Raises ChannelError for what cannot be one."""
    start, size = 0, len(buffer)
    while size - start >= ANSWER.size:
        number, type_size, headers_size, body_size, status, batch, flags, run_ms = ANSWER.unpack_from(buffer, start)
        if type_size + headers_size > HEAD_MAX or body_size > body_max or not 200 <= status <= 599:
            raise ChannelError("a worker wrote what is no reply")
        headers = start + ANSWER.size + type_size
        body = headers + headers_size
        if size < body + body_size:
            break
        kind = bytes(buffer[start + ANSWER.size : headers])
        start = body + body_size
        # In their order: a twentieth of the time that each request takes went into naming them.
        answer = bytes(buffer[headers:body]), None if run_ms < 0 else run_ms, bool(flags & FAILED), number, batch
        yield Reply(status, bytes(buffer[body:start]), kind, *answer)
    del buffer[:start]
