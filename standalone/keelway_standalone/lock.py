"""One `keelway up` for one data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from keelway_standalone.errors import Refused
from keelway_standalone.files import OWNER_FILE


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock, with our pid written in it. Raises Refused naming the pid that holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_FILE)
    try:
        _take(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # the file stays: unlinking it would let two hold "the" lock


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
        raise Refused(f"keelway is already running with {path.parent} (pid {holder})") from None


def holder(path: Path) -> int | None:
    """The pid that holds the lock, or None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0) or b"0")
    else:
        return None
    finally:
        os.close(descriptor)
