"""Tars of files, written while they are sent: the same bytes that the API gives of the same files."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from keelway.contracts.files import tar_header, tar_padding
from keelway_workers.images.engine import Check

CHUNK = 1 << 20


def pieces(files: Mapping[str, Path], check: Check) -> Iterator[bytes]:
    """The bytes of a tar with these files under these names, in this order."""
    for name, path in files.items():
        with path.open("rb") as file:
            size_bytes = path.stat().st_size
            yield tar_header(name, size_bytes)
            while chunk := file.read(CHUNK):
                check()
                yield chunk
            yield tar_padding(size_bytes)
    yield bytes(2 * tarfile.BLOCKSIZE)
