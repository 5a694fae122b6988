"""Files that are whole or not there, and readable by their owner only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

OWNER_DIR = 0o700
OWNER_FILE = 0o600


def owner_dir(path: Path) -> Path:
    """The folder, made if missing, that only its owner may enter."""
    path.mkdir(parents=True, exist_ok=True, mode=OWNER_DIR)
    if path.stat().st_mode & 0o777 != OWNER_DIR:
        path.chmod(OWNER_DIR)
    return path


def write_whole(path: Path, text: str, *, sync: bool = False) -> None:
    """Put text at `path`, so that no reader and no crash ever sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_FILE), "w") as stream:
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())
    beside.replace(path)
    if sync:
        sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
