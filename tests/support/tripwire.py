"""A wire between two processes on which something happens at a place among the messages that go up it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Address = tuple[str, int] | Path
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Place:
    """A place among the messages: the n-th, the one after so many bytes, or one that has a mark.

    Of several `marks`, regular expressions, one connection must have seen all in their order: the last is the place.
    """

    name: str
    number: int = 0
    sent_bytes: int = 0
    marks: tuple[bytes, ...] = ()
    is_passed_first: bool = False


NOWHERE = Place("nowhere")


class Tripwire:
    """Listens on `address` and passes everything on to `target`, both ways."""

    def __init__(self, address: Address, target: Address) -> None:
        self._target = target
        self._lock = threading.Lock()
        self.seen = self.sent_bytes = 0
        self.is_tripped = False
        self._place = NOWHERE
        self._marks_seen: dict[int, int] = {}  # by thread, which is by connection
        self._on_trip: Callable[[], object] = lambda: None
        family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.bind(str(address) if isinstance(address, Path) else address)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Its port, when it has one."""
        return self._listener.getsockname()[1]

    def arm(self, place: Place, on_trip: Callable[[], object] = lambda: None) -> None:
        """Count anew, and call `on_trip` at that place: before the message is passed on, or right after."""
        with self._lock:
            self.seen = self.sent_bytes = 0
            self.is_tripped = False
            self._marks_seen.clear()
            self._place, self._on_trip = place, on_trip

    def disarm(self) -> None:
        """Nothing happens any more; what was counted stays."""
        with self._lock:
            self._place = NOWHERE

    def close(self) -> None:
        """No more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            family = socket.AF_UNIX if isinstance(self._target, Path) else socket.AF_INET
            server = socket.socket(family)
            try:
                server.connect(str(self._target) if isinstance(self._target, Path) else self._target)
            except OSError:
                client.close()
                server.close()
                continue
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                place = self._reached(chunk) if is_up else None
                if place is None or place.is_passed_first:
                    sink.sendall(chunk)
                if place is not None:
                    self._on_trip()
        for end in (source, sink):  # which wakes the other pump
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _reached(self, chunk: bytes) -> Place | None:
        """The place, when this is the message it is at."""
        with self._lock:
            self.seen += 1
            self.sent_bytes += len(chunk)
            place = self._place
            if self.is_tripped or not (
                self.seen == place.number or 0 < place.sent_bytes <= self.sent_bytes or self._has_last_mark(chunk)
            ):
                return None
            self.is_tripped = True
            return place

    def _has_last_mark(self, chunk: bytes) -> bool:
        marks, thread = self._place.marks, threading.get_ident()
        seen = self._marks_seen.get(thread, 0)
        while seen < len(marks) and re.search(marks[seen], chunk, re.DOTALL):
            seen += 1
        self._marks_seen[thread] = seen
        return 0 < len(marks) == seen
