"""A replica's log: what it printed, kept to a size, and sent on to the API from where that was last reached.

Offsets count bytes since the replica's first start. `log` begins at offset `base`; `log.1` holds what came before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from keelway_workers.node_dir import write_atomically

ROTATE_AT = 16 * 1024 * 1024
TURN_BYTES = 256 * 1024
TAIL_BYTES = 64 * 1024
TRACEBACK = "Traceback (most recent call last):"


@contextmanager
def log_file(folder: Path) -> Iterator[int]:
    """A descriptor to append to. Appending is what lets the file be emptied under a running replica."""
    descriptor = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def tail_of(folder: Path, lines: int) -> list[str]:
    """The last lines of the log."""
    try:
        with (folder / "log").open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - TAIL_BYTES))
            text = log.read()
    except FileNotFoundError:
        return []
    return decode(text).splitlines()[-lines:]


def telling_tail(folder: Path, lines: int, *, at_most: int) -> list[str]:
    """The last lines, and more when a traceback begins before them: it is what people look for."""
    tail = tail_of(folder, at_most)
    starts = [number for number, line in enumerate(tail) if line.startswith(TRACEBACK)]
    return tail[min([max(0, len(tail) - lines), *starts[-1:]]) :]


class Offsets(BaseModel):
    """How far a log was rotated and sent."""

    base: int = 0
    sent: int = 0


@dataclass(frozen=True)
class Piece:
    """New text of a log. `offset` and `end` are in bytes of the log, whatever the text's own length."""

    offset: int
    end: int
    text: str


class ReplicaLogFile:
    """Reading side of one replica's log; for one thread only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets = self._load()

    def next_piece(self, at_most: int) -> Piece | None:
        """What was written since the last `sent`; None when there is nothing."""
        size = self._size("log")
        base, sent = self._offsets.base, self._offsets.sent
        if sent < base:
            if piece := self._read_old(at_most):
                return piece
            sent = base  # rotated away before it could be sent
        if sent > base + size:
            # Emptied, but not yet written down, when a supervisor was killed.
            self._save(Offsets(base=sent, sent=sent))
            return self._piece("log", 0, sent, min(at_most, size))
        return self._piece("log", sent - base, sent, min(at_most, base + size - sent))

    def mark_sent(self, piece: Piece) -> None:
        """The piece has arrived and is not sent again."""
        self._save(Offsets(base=self._offsets.base, sent=piece.end))

    def rotate(self) -> None:
        """Keep the log to its size, with one old file. What is printed between copy and cut is lost."""
        size = self._size("log")
        if size < ROTATE_AT:
            return
        shutil.copyfile(self._folder / "log", self._folder / "log.1")
        os.truncate(self._folder / "log", 0)
        self._save(Offsets(base=self._offsets.base + size, sent=self._offsets.sent))

    def _read_old(self, at_most: int) -> Piece | None:
        begins = self._offsets.base - self._size("log.1")
        sent = max(self._offsets.sent, begins)
        return self._piece("log.1", sent - begins, sent, min(at_most, self._offsets.base - sent))

    def _piece(self, name: str, position: int, offset: int, length: int) -> Piece | None:
        if length <= 0:
            return None
        with (self._folder / name).open("rb") as log:
            log.seek(position)
            raw = whole_characters(log.read(length))
        return Piece(offset, offset + len(raw), decode(raw)) if raw else None

    def _size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return 0

    def _load(self) -> Offsets:
        try:
            return Offsets.model_validate_json((self._folder / "log.offsets").read_bytes())
        except (OSError, ValidationError):
            return Offsets()

    def _save(self, offsets: Offsets) -> None:
        self._offsets = offsets
        write_atomically(self._folder / "log.offsets", offsets.model_dump_json())


def decode(raw: bytes) -> str:
    """Log bytes as text that any database takes."""
    return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


def whole_characters(raw: bytes) -> bytes:
    """The bytes without a last character that was cut in two; all of them when they are no UTF-8 anyway."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte & 0xC0 == 0x80:
            continue
        needs = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return raw[:-back] if needs > back else raw
    return raw
