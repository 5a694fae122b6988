"""How the inspecting child asks its parent for bytes: it has no network, no token and no path of its own.

Frames of a type, a length and a payload. The child asks for the next blob (N), for a range of it (R) and gives its
verdict (V); the parent answers N with a size (F) or the end (E), and R with the bytes (D).
"""

from __future__ import annotations

import io
import json
import socket
import struct
from typing import Any

NEXT, RANGE, VERDICT, FILE, END, DATA = b"N", b"R", b"V", b"F", b"E", b"D"
HEAD = struct.Struct(">cI")
SPAN = struct.Struct(">QI")
MAX_FRAME = 16 * 2**20
BLOCK = 2**18
KEPT = 16


class Gone(Exception):  # noqa: N818
    """The other side is not there any more, or says what makes no sense."""


def send(channel: socket.socket, kind: bytes, payload: bytes = b"") -> None:
    """Send one frame. Raises Gone."""
    try:
        channel.sendall(HEAD.pack(kind, len(payload)) + payload)
    except OSError as error:
        raise Gone(str(error)) from None


def receive(channel: socket.socket) -> tuple[bytes, bytes]:
    """The next frame. Raises Gone."""
    kind, length = HEAD.unpack(_exactly(channel, HEAD.size))
    if length > MAX_FRAME:
        raise Gone(f"a frame of {length} bytes")
    return kind, _exactly(channel, length)


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            chunk = channel.recv(min(count - len(data), BLOCK))
        except OSError as error:
            raise Gone(str(error)) from None
        if not chunk:
            raise Gone("the other side closed")
        data += chunk
    return bytes(data)


class Remote(io.RawIOBase):
    """The child's view of a blob: a file that is read through the channel, a few blocks of it kept."""

    def __init__(self, channel: socket.socket, size: int) -> None:
        self._channel = channel
        self._size = size
        self._at = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(22, "before the first byte")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if self._at >= self._size or not view:
            return 0
        number, within = divmod(self._at, BLOCK)
        piece = self._block(number)[within : within + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if len(self._blocks) >= KEPT:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[number] = self._fetch(number * BLOCK)
        return self._blocks[number]

    def _fetch(self, offset: int) -> bytes:
        length = min(BLOCK, self._size - offset)
        send(self._channel, RANGE, SPAN.pack(offset, length))
        kind, data = receive(self._channel)
        if kind != DATA or len(data) != length:
            raise Gone("no bytes")
        return data


def next_size(channel: socket.socket) -> int | None:
    """For the child: the size of the next blob, None at the end."""
    send(channel, NEXT)
    kind, payload = receive(channel)
    return int(payload) if kind == FILE else None


def give(channel: socket.socket, verdict: dict[str, Any]) -> None:
    """For the child: say what a blob is."""
    send(channel, VERDICT, json.dumps(verdict).encode())
