"""The node's cache of blobs: fetched once, verified, shared by all replicas, never handed to a script."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from keelway.errors import CorruptBytes, DamagedDownload
from keelway_workers.failures import WorkFailed, disk_full
from keelway_workers.node_dir import NodeDir

AT_ONCE = 4


class Download(Protocol):
    """How a blob comes here; raises unless the bytes have this digest."""

    def __call__(self, sha256: str, to: Path, /) -> object:
        """Write the blob's bytes to a new file."""
        ...


class BlobCache:
    """Blobs by digest. Any number of threads and processes may fetch the same one at once."""

    def __init__(self, node: NodeDir, download: Download) -> None:
        self._node = node
        self._download = download

    def fetch(self, digests: Iterable[str]) -> None:
        """Have all these blobs here. Raises what the first failing download raised."""
        missing = [digest for digest in sorted(set(digests)) if not self._node.blob(digest).is_file()]
        if not missing:
            return
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            for download in [pool.submit(self._fetch_one, digest) for digest in missing]:
                download.result()

    def path(self, sha256: str) -> Path:
        """Where the blob lies, fetched first when it is not there. It may have rotted since: hash what you read."""
        self.fetch([sha256])
        return self._node.blob(sha256)

    def evict(self, sha256: str) -> None:
        """Forget a blob whose bytes turned out to be damaged."""
        self._node.blob(sha256).unlink(missing_ok=True)

    def _fetch_one(self, sha256: str) -> None:
        target = self._node.blob(sha256)
        temporary = self._node.tmp / f"blob-{uuid.uuid4().hex}"
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._download_good(sha256, temporary)
            temporary.chmod(0o400)
            temporary.rename(target)
        except OSError as error:
            raise disk_full(error) or error from None
        finally:
            temporary.unlink(missing_ok=True)

    def _download_good(self, sha256: str, to: Path) -> None:
        try:
            self._download(sha256, to)
        except (DamagedDownload, CorruptBytes) as error:
            raise WorkFailed("damaged-bytes", f"the stored bytes of {sha256} are damaged: {error}") from None
