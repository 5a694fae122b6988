"""The node's cache of blobs: fetched once, verified, shared by all replicas, never handed to a script."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from keelway.errors import CorruptBytes, DamagedDownload
from keelway_workers.failures import WorkFailed, WorkStopped, disk_full
from keelway_workers.node_dir import NodeDir

AT_ONCE = 4
CHECK_EVERY_S = 0.2

Check = Callable[[], None]
"""Raises WorkStopped when the work that asks is not wanted any more."""


class Download(Protocol):
    """How a blob comes here; raises unless the bytes have this digest."""

    def __call__(self, sha256: str, to: Path, /, *, progress: Callable[[int], None]) -> object:
        """Write the blob's bytes to a new file; what `progress` raises at a piece of them ends the download."""
        ...


class BlobCache:
    """Blobs by digest. Any number of threads and processes may fetch the same one at once."""

    def __init__(self, node: NodeDir, download: Download) -> None:
        self._node = node
        self._download = download

    def fetch(self, digests: Iterable[str], *, check: Check) -> None:
        """Have all these blobs here. Raises what the first failing download, or meanwhile `check`, raised."""
        missing = [digest for digest in sorted(set(digests)) if not self._node.blob(digest).is_file()]
        if not missing:
            return
        with self._node.scratch() as scratch:
            self._fetch_all(missing, scratch, check)

    def _fetch_all(self, missing: list[str], scratch: Path, check: Check) -> None:
        abandoned = threading.Event()
        pool = ThreadPoolExecutor(max_workers=AT_ONCE)
        try:
            waiting = {pool.submit(self._fetch_one, digest, scratch, abandoned) for digest in missing}
            while waiting:
                check()
                ended, waiting = wait(waiting, timeout=CHECK_EVERY_S, return_when=FIRST_EXCEPTION)
                for download in ended:
                    download.result()
        finally:
            # Not waited for: a download whose server says nothing ends only when its connection times out.
            abandoned.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def path(self, sha256: str, *, check: Check) -> Path:
        """Where the blob lies, fetched first when it is not there. It may have rotted since: hash what you read."""
        self.fetch([sha256], check=check)
        return self._node.blob(sha256)

    def evict(self, sha256: str) -> None:
        """Forget a blob whose bytes turned out to be damaged."""
        self._node.blob(sha256).unlink(missing_ok=True)

    def _fetch_one(self, sha256: str, scratch: Path, abandoned: threading.Event) -> None:
        target = self._node.blob(sha256)
        temporary = scratch / f"blob-{uuid.uuid4().hex}"
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._download_good(sha256, temporary, abandoned)
            temporary.chmod(0o400)
            temporary.rename(target)
        except OSError as error:
            raise disk_full(error) or error from None
        finally:
            temporary.unlink(missing_ok=True)

    def _download_good(self, sha256: str, to: Path, abandoned: threading.Event) -> None:
        def go_on(_: int) -> None:
            if abandoned.is_set():
                raise WorkStopped

        try:
            self._download(sha256, to, progress=go_on)
        except (DamagedDownload, CorruptBytes) as error:
            raise WorkFailed("damaged-bytes", f"the stored bytes of {sha256} are damaged: {error}") from None
