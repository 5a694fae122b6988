"""HTTP by hand: any bytes over a socket, and what comes back."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from types import TracebackType
from typing import Any

RESET = struct.pack("ii", 1, 0)  # linger for 0 s: close() tells the other side that nobody is there


class Answer:
    """One answer. `interim`: how many of 1xx came before it."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, interim: int) -> None:
        self.status, self.headers, self.body, self.interim = status, headers, body, interim

    def json(self) -> Any:
        """Its body, parsed."""
        return json.loads(self.body)


class Raw:
    """A connection on which anything may be sent."""

    def __init__(self, port: int, *, timeout_s: float = 5, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = bytearray()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, frames: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Raw:
        """Send all of it, or as much as the server lets; whether it listened is seen by its answer."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)
        return self

    def end_sending(self) -> Raw:
        """Close this side only."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Go away so that the server sees it at once."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def answer(self) -> Answer:
        """The next final answer."""
        answer = self.answer_if_any()
        assert answer is not None, "it closed without an answer"
        return answer

    def answer_if_any(self) -> Answer | None:
        """The next final answer; None when the server closes without one."""
        interim = 0
        while True:
            head = self._until(b"\r\n\r\n")
            if head is None:
                return None
            line, *lines = head.decode("latin-1").rstrip().split("\r\n")
            version, status, _ = line.split(" ", 2)
            assert version == "HTTP/1.1", head
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
            if status[0] != "1":
                break
            interim += 1
        return Answer(int(status), headers, self.take(int(headers["content-length"])), interim)

    def take(self, size: int) -> bytes:
        """So many bytes as they come."""
        while len(self._buffer) < size:
            assert self._receive(), f"it closed after {len(self._buffer)} of {size} bytes"
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def is_closed(self, within_s: float = 5) -> bool:
        """Whether the server ends its side without a further byte."""
        self.socket.settimeout(within_s)
        try:
            return not self._buffer and not self.socket.recv(1)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def _until(self, end: bytes) -> bytes | None:
        while end not in self._buffer:
            if not self._receive():
                assert not self._buffer, self._buffer
                return None
        return self.take(self._buffer.index(end) + len(end))

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._buffer += data
        return bool(data)


def request(method: str = "GET", path: str = "/livez", *headers: str, body: bytes = b"") -> bytes:
    """A request with a Host and the body's length; further headers as `name: value`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def scoring(body: bytes, *headers: str) -> bytes:
    """A request to /score."""
    return request("POST", "/score", *headers, body=body)
