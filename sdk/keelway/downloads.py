"""Downloads that are verified before they exist: a `.part` file beside, hashed, then renamed."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import httpx2

from keelway.errors import DamagedDownload

if TYPE_CHECKING:
    from keelway.client import Client


def download_file(
    client: Client,
    url: str,
    to: Path,
    *,
    sha256: str,
    size_bytes: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Put the bytes at `to`. Wrong bytes raise DamagedDownload and leave nothing behind.

    A download that was cut goes on where it was.

    `progress` gets the number of bytes of each piece, negative when some are to be fetched again.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as stream:
            got = _Fetch(client, url, stream, size_bytes, progress or (lambda _: None)).run()
            stream.flush()
            os.fsync(stream.fileno())
        if got != sha256:
            raise DamagedDownload(to, f"the sha256 of what came is {got}, not {sha256}")
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)


class _Fetch:
    """One file on its way to disk, over as many connections as it takes."""

    def __init__(
        self, client: Client, url: str, stream: BinaryIO, size_bytes: int | None, progress: Callable[[int], None]
    ) -> None:
        self._client, self._url, self._stream = client, url, stream
        self._size_bytes, self._progress = size_bytes, progress
        self._hash, self._have = hashlib.sha256(), 0

    def run(self) -> str:
        """The sha256 of all bytes written."""
        patience = self._client.transport.patience()
        while True:
            before = self._have
            try:
                self._rest()
            except httpx2.TransportError as error:
                if self._have > before:
                    patience.reset()
                patience.wait(error, what=f"GET {self._url}")
            else:
                return self._hash.hexdigest()

    def _rest(self) -> None:
        # Compressed answers would make offsets meaningless.
        headers = {"Accept-Encoding": "identity"}
        if self._have:
            headers["Range"] = f"bytes={self._have}-"
        with self._client.transport.stream("GET", self._url, headers=headers) as response:
            if self._have and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                self._start_again()
            for chunk in response.iter_bytes():
                self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        self._have += len(chunk)
        if self._size_bytes is not None and self._have > self._size_bytes:
            raise DamagedDownload(self._url, f"more than the announced {self._size_bytes} bytes came")
        self._stream.write(chunk)
        self._hash.update(chunk)
        self._progress(len(chunk))

    def _start_again(self) -> None:
        self._progress(-self._have)
        self._stream.seek(0)
        self._stream.truncate()
        self._hash, self._have = hashlib.sha256(), 0
