"""A file that nobody must open and a port that nobody must call, and ways to name them."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_IN_ACCESS, _IN_OPEN = 0x1, 0x20  # inotify(7)
_EVENTS_BYTES = 4096
_libc = ctypes.CDLL(None, use_errno=True)


class Canary:
    """Both of them, watched."""

    def __init__(self, file: Path, listener: socket.socket) -> None:
        self.file, self.port, self.was_asked = file, listener.getsockname()[1], False
        self.text = file.read_text()
        self._listener = listener
        self._watch = _watch(file)

    def listen(self) -> None:
        """Note whoever calls, until the port is shut."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.close()
                self.was_asked = True

    @property
    def was_opened(self) -> bool:
        """Whether any process opened the file since this was asked last, by whatever name."""
        try:
            return bool(os.read(self._watch, _EVENTS_BYTES))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Watch no longer."""
        os.close(self._watch)

    @property
    def ways_out(self) -> list[str]:
        """What leads to them, or out of where it is used: no name, path or digest may be like these."""
        path, up = str(self.file), "../" * 12 + str(self.file).lstrip("/")
        address = f"http://127.0.0.1:{self.port}/x"
        return [
            *(path, up, f"file://{path}", f"m.pkl\0{path}", up.replace("/", "\\")),
            *(address, f"s3://127.0.0.1:{self.port}/x", f"//127.0.0.1:{self.port}/x"),
            *("..", "\u202eridge", "a" * 5000, "\ud800"),
        ]

    @property
    def few(self) -> list[str]:
        """Some of them, for fields that anything may stand in."""
        return [str(self.file), f"http://127.0.0.1:{self.port}/x", "\ud800"]

    @property
    def oddities(self) -> list[str]:
        """What somebody may take for something else; as a name it may be allowed."""
        return ["~", "RIDGE", "ridge.", "rid\u0261e", "'; DROP TABLE models; --", "%2e%2e%2f", "-1", "9" * 30]

    @property
    def payloads(self) -> list[str]:
        """All of them."""
        return self.ways_out + self.oddities


def _watch(file: Path) -> int:
    """A descriptor with something to read as soon as anybody opens or reads the file. Raises OSError."""
    watch = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0 or _libc.inotify_add_watch(watch, os.fsencode(file), _IN_OPEN | _IN_ACCESS) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return watch


@contextmanager
def canary(folder: Path) -> Iterator[Canary]:
    """One that is watched while inside."""
    file = folder / "canary"
    file.write_text("this text is nobody's business")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Canary(file, listener)
        thread = threading.Thread(target=made.listen, daemon=True)
        thread.start()
        yield made
        made.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
