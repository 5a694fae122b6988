"""Uploads: which files, their digests, and the bytes the server does not have yet."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keelway.contracts.files import BlobUpload, FileEntry, ManifestFile, MissingFile
from keelway.errors import BlobNotExpected, InvalidInput, ProblemError, Unreachable, UploadTakenOver
from keelway.resources.base import SLOW_ANSWER_S, checked, parsed

if TYPE_CHECKING:
    from keelway.client import Client

Item = TypeVar("Item")
Done = TypeVar("Done")
Progress = Callable[[str, int, int], None]
"""Called with (`hash`, `upload`, `download` or `verify`; bytes done; bytes in all), never by two threads at once."""

_CHUNK_BYTES = 256 * 1024  # stays in the processor's cache on its way
_PARALLEL = 4
_RESUMED_BYTES = 8 * 1024 * 1024
_LOOK_EVERY_S, _STILL_S = 0.5, 15.0
_BYTES = "application/octet-stream"


class Stopped(Exception):  # noqa: N818  (never seen by callers)
    """Another thread of the same transfer failed, or somebody pressed Ctrl-C."""


class Tally:
    """Bytes done by several threads, told to one callback."""

    def __init__(self, phase: str, total: int, progress: Progress | None) -> None:
        self._phase, self._total, self._progress = phase, total, progress
        self._done = 0
        self._lock = threading.Lock()
        self._is_stopped = False
        self.add(0)

    def add(self, size_bytes: int) -> None:
        """`size_bytes` more are done; negative when some have to be done again. Raises Stopped after `stop`."""
        if self._is_stopped:
            raise Stopped
        if self._progress is None:
            return
        with self._lock:
            self._done += size_bytes
            self._progress(self._phase, self._done, self._total)

    def stop(self) -> None:
        """Have every thread end at its next chunk: nobody waits for the rest of a huge file."""
        self._is_stopped = True


def model_files(path: Path, child_paths: Sequence[str] = ()) -> dict[str, Path]:
    """Manifest path -> file. A file goes by its base name, a folder's files by its base name and their relative path.

    `child_paths` picks files and sub-folders of a folder. Raises InvalidInput for a missing path, an empty folder and
    a link that leaves the folder.
    """
    # Not resolve(): a link is called what it is called, and not what it points to.
    name = Path(os.path.abspath(path)).name  # noqa: PTH100
    if not path.exists():
        raise InvalidInput(f"{path} does not exist")
    if path.is_file():
        if child_paths:
            raise InvalidInput(f"child paths pick from a folder, but {path} is a file")
        return {name: path}
    files = folder_files(path, tops=child_paths)
    return {f"{name}/{relative}": file for relative, file in files.items()}


def folder_files(
    folder: Path, *, tops: Sequence[str] = (), skip: Callable[[Path], bool] = lambda _: False
) -> dict[str, Path]:
    """Relative path -> file for all files of a folder, or of the `tops` in it; `skip` leaves some out."""
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    root = folder.resolve()
    starts = [_child(folder, top) for top in tops] or [folder]
    found = {
        file.relative_to(folder).as_posix(): file for start in starts for file in _walk(start, root, skip, frozenset())
    }
    if not found:
        raise InvalidInput(f"there are no files in {folder}")
    return dict(sorted(found.items()))


def manifest(files: dict[str, Path], progress: Progress | None = None) -> list[ManifestFile]:
    """The files with their sizes and digests, hashed in parallel."""
    sizes = {path: file.stat().st_size for path, file in files.items()}
    tally = Tally("hash", sum(sizes.values()), progress)

    def entry(path: str) -> ManifestFile:
        sha256, size_bytes = digest(files[path], tally)
        return checked(ManifestFile, path=path, size_bytes=size_bytes, sha256=sha256)

    return in_parallel(entry, files, tally)


def send_missing(
    client: Client, missing: Collection[MissingFile], files: dict[str, Path], progress: Progress | None = None
) -> None:
    """PUT each blob that the server asked for, once, to where it asked for it."""
    blobs = {file.sha256: file for file in missing}.values()
    tally = Tally("upload", sum(blob.size_bytes for blob in blobs), progress)

    def put(blob: MissingFile) -> None:
        if blob.path not in files:
            raise InvalidInput(f"the server asks for {blob.path!r}, which is not part of this upload")
        body = _Body(files[blob.path], blob, tally)
        # Somebody else with our token may have sent it, and sealed what lists it; if not, sealing will tell.
        with suppress(BlobNotExpected):
            if blob.size_bytes > _RESUMED_BYTES and blob.upload_url.startswith("/"):
                _put_resumed(client, blob, body)
            else:
                headers = {"Content-Length": str(blob.size_bytes), "Content-Type": _BYTES}
                client.request("PUT", blob.upload_url, content=body, headers=headers, timeout_s=SLOW_ANSWER_S)

    in_parallel(put, blobs, tally)


def _put_resumed(client: Client, blob: MissingFile, body: _Body) -> None:
    """PUT a large file, behind what earlier attempts, of this or another process, left in the store."""
    patience = client.transport.patience()
    while True:
        try:
            _put_rest(client, blob, body)
        except UploadTakenOver:
            _await_other(client, blob, tally=body.tally)
        except (Unreachable, ProblemError) as error:
            if body.sent > _RESUMED_BYTES:
                patience.reset()
            # Another connection of ours got further, or ended, than we knew.
            patience.wait(error, what=f"PUT {blob.upload_url}")
        else:
            return


def _await_other(client: Client, blob: MissingFile, *, tally: Tally) -> None:
    """Let whoever sends the same with our token go on: until it is stored, or they get no further.

    Two who took it from each other would both begin again for ever.
    """
    received_bytes, moved = -1, time.monotonic()
    patience_s = _STILL_S * random.uniform(1, 2)  # noqa: S311  (no secret; not all who wait go on at once)
    while time.monotonic() - moved < patience_s:
        tally.add(0)
        time.sleep(_LOOK_EVERY_S)
        upload = _uploaded(client, blob)
        if upload.is_stored:
            return
        if upload.received_bytes > received_bytes:
            received_bytes, moved = upload.received_bytes, time.monotonic()


def _uploaded(client: Client, blob: MissingFile) -> BlobUpload:
    """How much of it the server has."""
    path = f"{blob.upload_url}/upload"
    return parsed(BlobUpload, client.request("GET", path, params={"size_bytes": blob.size_bytes}))


def _put_rest(client: Client, blob: MissingFile, body: _Body) -> None:
    size_bytes, upload = blob.size_bytes, _uploaded(client, blob)
    if upload.is_stored:
        return
    body.offset = upload.received_bytes
    headers = {"Content-Length": str(size_bytes - body.offset), "Content-Type": _BYTES}
    if body.offset:
        rest = f"{body.offset}-{size_bytes - 1}" if body.offset < size_bytes else "*"
        headers["Content-Range"] = f"bytes {rest}/{size_bytes}"
    client.request("PUT", blob.upload_url, content=body, headers=headers, timeout_s=SLOW_ANSWER_S, retry_for_s=0)


def in_parallel(work: Callable[[Item], Done], items: Iterable[Item], tally: Tally) -> list[Done]:
    """`work` done for all items, several at a time. After the first failure, or Ctrl-C, the others are stopped."""
    with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
        try:
            futures = [pool.submit(work, item) for item in items]
            for ended in wait(futures, return_when=FIRST_EXCEPTION).done:
                ended.result()
        except BaseException:
            tally.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


class _Body:
    """A file's bytes from `offset` on as a request body that can be sent again."""

    def __init__(self, file: Path, entry: FileEntry, tally: Tally) -> None:
        self._file, self._entry, self.tally = file, entry, tally
        self.offset = 0
        self.sent = 0
        self._counted = 0

    def __call__(self) -> Iterator[bytes]:
        self._count(self.offset)  # and no more of the attempt before this one
        self.sent = 0
        with self._file.open("rb", buffering=0) as stream:
            stream.seek(self.offset)
            while chunk := stream.read(_CHUNK_BYTES):
                self.sent += len(chunk)
                if self.offset + self.sent > self._entry.size_bytes:
                    break
                self._count(self.offset + self.sent)
                yield chunk
        if self.offset + self.sent != self._entry.size_bytes:
            raise InvalidInput(f"{self._file} changed while it was uploaded; register it again")

    def _count(self, done: int) -> None:
        self.tally.add(done - self._counted)
        self._counted = done


def _child(folder: Path, relative: str) -> Path:
    child = folder / relative
    if not child.exists():
        raise InvalidInput(f"{relative!r} does not exist in {folder}")
    if not Path(os.path.abspath(child)).is_relative_to(Path(os.path.abspath(folder))):  # noqa: PTH100
        raise InvalidInput(f"{relative!r} lies outside {folder}")
    return folder / os.path.relpath(child, folder)


def _walk(path: Path, root: Path, skip: Callable[[Path], bool], inside: frozenset[Path]) -> Iterator[Path]:
    real = path.resolve()
    if not real.is_relative_to(root):
        raise InvalidInput(f"{path} is a link that leaves the folder (to {real}); copy the file there instead")
    if path.is_file():
        yield path
    elif not path.is_dir():
        raise InvalidInput(f"{path} is neither a file nor a folder{' (a broken link)' if path.is_symlink() else ''}")
    elif real in inside:
        raise InvalidInput(f"{path} is a link to a folder that it lies in")
    else:
        for child in sorted(path.iterdir()):
            if not skip(child):
                yield from _walk(child, root, skip, inside | {real})


def digest(file: Path, tally: Tally) -> tuple[str, int]:
    """The sha256 of a file and how many bytes were read."""
    hashed, size_bytes = hashlib.sha256(), 0
    chunk = memoryview(bytearray(_CHUNK_BYTES))
    with file.open("rb", buffering=0) as stream:
        while read_bytes := stream.readinto(chunk):
            hashed.update(chunk[:read_bytes])
            size_bytes += read_bytes
            tally.add(read_bytes)
    return hashed.hexdigest(), size_bytes
