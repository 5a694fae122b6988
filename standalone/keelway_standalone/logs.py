"""The files that processes write to: opened for appending, kept small, their ends shown when a start fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from keelway_standalone.files import OWNER_FILE

ROTATE_BYTES = 16 * 2**20
KEPT = 3
TAIL_LINES = 20


def open_log(path: Path) -> int:
    """A descriptor to append to. Appending is what makes truncation below safe: writes go to the new end."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_FILE)


def rotate(path: Path, *, limit_bytes: int = ROTATE_BYTES) -> None:
    """Copy a grown log away and empty it, without the writer knowing. A line may be lost between the two."""
    if not path.exists() or path.stat().st_size <= limit_bytes:
        return
    for number in range(KEPT - 1, 0, -1):
        older = _kept(path, number)
        if older.exists():
            older.replace(_kept(path, number + 1))
    shutil.copyfile(path, _kept(path, 1))
    os.truncate(path, 0)


def _kept(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def size(path: Path) -> int:
    """How long a log is by now."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, *, since: int = 0, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log, of those that were written after its size was `since`."""
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - 65_536, since if since <= end else 0))
            return stream.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


PORT_TAKEN = "its port is taken"
REASONS = {
    "address already in use": PORT_TAKEN,
    "no space left on device": "the disk is full",
    "disk quota exceeded": "the disk quota is used up",
    "permission denied": "a file or folder is not accessible to it",
    "cannot allocate memory": "there is not enough memory",
    "no such file or directory": "a file is missing",
    "modulenotfounderror": "a Python module is missing: install the package again",
}


def reason(lines: list[str]) -> str:
    """What the last lines say is wrong, in words, as far as they are known."""
    text = "\n".join(lines).lower()
    return next((words for sign, words in REASONS.items() if sign in text), "")
