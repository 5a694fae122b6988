"""A small real HTTP server for tests of the client: it answers from a script and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What to say. `cut_at` ends the connection after so many bytes of the body; `drop` says nothing at all.

    `is_endless`: after the body comes more and more of it, until the other side has enough.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    drop: bool = False
    is_endless: bool = False

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


Reply = Answer | Callable[[Asked], Answer]


class Wire:
    """The server. `on("GET /v1/x", a, b)`: the first request gets `a`, all later ones `b`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._replies: dict[str, list[Reply]] = defaultdict(list)
        self._lock = threading.Lock()
        self.url = ""

    def on(self, line: str, *replies: Reply) -> None:
        self._replies[line] = list(replies)

    def of(self, method: str, path: str = "") -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method and asked.path.startswith(path)]

    def reply(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            replies = self._replies.get(f"{asked.method} {asked.path}")
            if not replies:
                return problem(404, "not-found", f"nothing is scripted for {asked.method} {asked.path}")
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply(asked) if callable(reply) else reply


def problem(status: int, id: str, detail: str = "", headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    """A problem document."""
    body = {"type": f"/problems/{id}", "title": "A title", "status": status, "detail": detail, **fields}
    return Answer(status, body, {"Content-Type": "application/problem+json", **(headers or {})})


@contextmanager
def serving() -> Iterator[Wire]:
    """A server in a thread, on a free port."""
    wire = Wire()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = wire.reply(Asked(self.command, path, query, {k.lower(): v for k, v in self.headers.items()}, body))
            if answer.drop:
                self.close_connection = True
                return
            self.send_response(answer.status)
            length = {} if answer.is_endless else {"Content-Length": str(len(answer.content))}
            headers = {"Content-Type": "application/json"} | length | answer.headers
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            with suppress(ConnectionError):  # a client may have seen enough
                self.wfile.write(answer.content[: answer.cut_at])
                while answer.is_endless:
                    self.wfile.write(bytes(64 * 1024))
            self.close_connection = self.close_connection or answer.is_endless or answer.cut_at is not None

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    wire.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
