"""Downloads that are verified before they exist: bytes go into a part file, which is renamed when its digest is right.

A file of many ranges is fetched by several threads, from the object store where it can be, and an attempt that broke
off, its process killed even, is gone on with by the next one.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import httpx2

from keelway.errors import DamagedDownload
from keelway.links import Links, Store
from keelway.staging import sync_folder
from keelway.uploads import Tally, digest, in_parallel

if TYPE_CHECKING:
    from io import BufferedReader, FileIO

    from keelway.client import Client
    from keelway.contracts.files import FileEntry

RANGE_BYTES = 32 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024  # more at once is slower: it leaves the processor's cache
_THERE = b"\1"
_ENTRY_BYTES = 16 * 1024  # more than the headers and the padding of a file in a tar, with the longest path


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: from where, to where, and what it must be. `links_url` is asked for links to the store."""

    url: str
    to: Path
    sha256: str
    size_bytes: int
    links_url: str | None = None


def download_file(
    client: Client, url: str, to: Path, *, sha256: str, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Put the bytes at `to`, on the disk. Wrong bytes raise DamagedDownload and leave nothing behind.

    `progress` gets the number of bytes of each piece.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as stream:
            got = _fetch_whole(client, url, stream, progress)
        _place(part, to, got=got, sha256=sha256)
        sync_folder(to.parent)
    finally:
        part.unlink(missing_ok=True)


def download_files(client: Client, wanted: Sequence[Wanted], parts: Path, tally: Tally) -> None:
    """Put all files where they are wanted. Files that are there and right already are not fetched again.

    `parts` is a folder for what is not finished; what an earlier call left in it is gone on with.
    Raises DamagedDownload for wrong bytes, of which nothing is kept.
    """
    for folder in {parts, *(one.to.parent for one in wanted)}:
        folder.mkdir(parents=True, exist_ok=True)
    with closing(Store()) as store:
        _download_files(client, store, wanted, parts, tally)


def _download_files(client: Client, store: Store, wanted: Sequence[Wanted], parts: Path, tally: Tally) -> None:
    large = [_Ranged(client, store, one, parts, tally) for one in wanted if one.size_bytes > RANGE_BYTES]
    work: list[Callable[[], None]] = [
        partial(_small, client, one, parts, tally) for one in wanted if one.size_bytes <= RANGE_BYTES
    ]
    in_parallel(_call, [*work, *_missing(large, tally)], tally)
    # What another process left may be wrong where this one's is right: such a file gets one more chance.
    again = [
        file for file, is_done in zip(large, in_parallel(_Ranged.finish, large, tally), strict=True) if not is_done
    ]
    in_parallel(_call, _missing(again, tally), tally)
    in_parallel(_Ranged.finish, again, tally)


def download_archive(client: Client, url: str, to: Path, files: Collection[FileEntry], tally: Tally) -> None:
    """Put a tar of exactly these files at `to`, on the disk. Raises DamagedDownload for any other."""
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("x+b") as stream:
            _stream_archive(client, url, stream, files, tally)
            stream.flush()
            os.fsync(stream.fileno())
            _check_archive(stream, to, files)
        part.replace(to)
        sync_folder(to.parent)
    finally:
        part.unlink(missing_ok=True)


def _stream_archive(client: Client, url: str, stream: BinaryIO, files: Collection[FileEntry], tally: Tally) -> None:
    size_bytes = sum(file.size_bytes for file in files)
    most_bytes = size_bytes + (len(files) + 1) * _ENTRY_BYTES
    patience = client.transport.patience()
    while True:
        stream.seek(0)
        stream.truncate()
        counted = 0
        try:
            with client.transport.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
                for chunk in response.iter_raw():
                    stream.write(chunk)
                    if stream.tell() > most_bytes:
                        raise DamagedDownload(url, f"more than {most_bytes} bytes came for {len(files)} file(s)")
                    step = min(len(chunk), size_bytes - counted)  # headers are nobody's bytes
                    counted += step
                    tally.add(step)
                return
        except httpx2.TransportError as error:
            tally.add(-counted)
            patience.wait(error, what=f"GET {url}")


def _check_archive(stream: BinaryIO, to: Path, files: Collection[FileEntry]) -> None:
    expected = {file.path: file for file in files}
    found: dict[str, str] = {}
    stream.seek(0)
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                file = expected.get(member.name)
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or file is None or member.size != file.size_bytes:
                    raise DamagedDownload(to, f"{member.name!r} in the archive is not what was registered")
                found[member.name] = hashlib.file_digest(cast("BufferedReader", content), "sha256").hexdigest()
    except tarfile.TarError as error:
        raise DamagedDownload(to, f"what came is no whole archive: {error}") from error
    if wrong := sorted(file.path for file in files if found.get(file.path) != file.sha256):
        raise DamagedDownload(to, f"the archive has not what was registered: {', '.join(wrong[:5])}")


def _missing(files: list[_Ranged], tally: Tally) -> list[Callable[[], None]]:
    return [fetch for fetches in in_parallel(_Ranged.missing, files, tally) for fetch in fetches]


def _call(work: Callable[[], None]) -> None:
    work()


def _small(client: Client, wanted: Wanted, parts: Path, tally: Tally) -> None:
    if _is_there(wanted, tally):
        return
    part = parts / f"{uuid.uuid4().hex}.part"

    def take(size_bytes: int) -> None:
        if stream.tell() > wanted.size_bytes:
            raise DamagedDownload(wanted.url, f"more than the announced {wanted.size_bytes} bytes came")
        tally.add(size_bytes)

    try:
        with part.open("xb") as stream:
            got = _fetch_whole(client, wanted.url, stream, take)
        _place(part, wanted.to, got=got, sha256=wanted.sha256)
    finally:
        part.unlink(missing_ok=True)


def _is_there(wanted: Wanted, tally: Tally) -> bool:
    if not wanted.to.is_file() or wanted.to.stat().st_size != wanted.size_bytes:
        return False
    if digest(wanted.to, tally) == (wanted.sha256, wanted.size_bytes):
        return True
    tally.add(-wanted.size_bytes)
    return False


def _place(part: Path, to: Path, *, got: str, sha256: str) -> None:
    if got != sha256:
        raise DamagedDownload(to, f"the sha256 of what came is {got}, not {sha256}")
    part.replace(to)


def _fetch_whole(client: Client, url: str, stream: BinaryIO, progress: Callable[[int], None]) -> str:
    """Write a whole file, to the disk; the sha256 of what came."""
    hashed = hashlib.sha256()

    def take(chunk: bytes) -> None:
        stream.write(chunk)
        hashed.update(chunk)
        progress(len(chunk))

    _Fetch(client, url, take).run()
    stream.flush()
    os.fsync(stream.fileno())
    return hashed.hexdigest()


class _Ranged:
    """A large file, fetched range by range, several at once.

    Its part file has one byte for each range behind the content, which says that the range is there: what a killed
    process left can be gone on with. Where something on the way knows no ranges, one stream brings all of it.
    """

    def __init__(self, client: Client, store: Store, wanted: Wanted, parts: Path, tally: Tally) -> None:
        self._client, self._wanted, self.tally = client, wanted, tally
        self._links = Links(client, wanted.links_url, store)
        self._part = parts / f"{hashlib.sha256(os.fsencode(wanted.to)).hexdigest()}.ranges"
        self._count = -(-wanted.size_bytes // RANGE_BYTES)
        self._is_resumed = self._is_finished = False
        self.there: set[int] = set()
        self._marking, self._streaming = threading.Lock(), threading.Lock()
        self._hash, self._hashed = hashlib.sha256(), 0
        self._hashing, self._syncing = threading.Lock(), threading.Lock()

    def missing(self) -> list[Callable[[], None]]:
        """What is still to be done, in pieces that may be done at the same time."""
        if self._is_finished or _is_there(self._wanted, self.tally):
            self._is_finished = True
            return []
        self.there = self._marked()
        self._is_resumed = bool(self.there)
        self.tally.add(sum(end - start for start, end in map(self.span, self.there)))
        return [partial(self._fetch, number) for number in range(self._count) if number not in self.there]

    def finish(self) -> bool:
        """Put the whole file in its place. False when it has to be fetched anew.

        Raises DamagedDownload when nothing else than wrong bytes can be had.
        """
        if self._is_finished:
            return True
        with self._hashing:
            self._hash_on()
        if self._hash.hexdigest() != self._wanted.sha256 and self._is_resumed:
            self._start_anew()
            return False
        try:
            with _opened(self._part, "r+b") as stream:
                stream.truncate(self._wanted.size_bytes)
                os.fsync(stream.fileno())
            _place(self._part, self._wanted.to, got=self._hash.hexdigest(), sha256=self._wanted.sha256)
        finally:
            self._part.unlink(missing_ok=True)
        self._is_finished = True
        return True

    def _fetch(self, number: int) -> None:
        if number in self.there or self._streaming.locked():
            return
        with _opened(self._part, "r+b") as stream:
            self._bring(number, stream)
            _unless_busy(self._hashing, self._hash_on)
            # What is on the disk already need not be waited for at the end.
            _unless_busy(self._syncing, partial(_sync_content, stream))

    def _bring(self, number: int, stream: FileIO) -> None:
        """From the store as far as it goes, the rest through the API."""
        sink = _Sink(self, stream, number)
        start, end = self.span(number)
        at = self._links.fetch(start, end, sink)
        if at == end:
            return
        try:
            _Fetch(self._client, self._wanted.url, sink, at, end, is_range=True).run()
        except _NoRanges:
            sink.forget()
            self._stream(stream)

    def _stream(self, stream: FileIO) -> None:
        """Fetch the whole file, unless another thread does: each range would come with all bytes before it."""
        if self._streaming.acquire(blocking=False):
            _Fetch(self._client, self._wanted.url, _Sink(self, stream, 0), 0, self._wanted.size_bytes).run()

    def mark(self, number: int, stream: FileIO) -> bool:
        """Say that a range is there; whether it was not before."""
        stream.seek(self._wanted.size_bytes + number)
        stream.write(_THERE)
        with self._marking:
            is_new = number not in self.there
            self.there.add(number)
        return is_new

    def _hash_on(self) -> None:
        """Hash what is there without a gap, while others fetch what comes behind it."""
        chunk = memoryview(bytearray(_CHUNK_BYTES))
        with _opened(self._part, "rb") as stream:
            while self._hashed in self.there:
                at, end = self.span(self._hashed)
                stream.seek(at)
                while at < end and (size_bytes := stream.readinto(chunk[: end - at])):
                    self._hash.update(chunk[:size_bytes])
                    at += size_bytes
                self._hashed += 1

    def span(self, number: int) -> tuple[int, int]:
        start = number * RANGE_BYTES
        return start, min(start + RANGE_BYTES, self._wanted.size_bytes)

    def _marked(self) -> set[int]:
        if self._part.is_symlink():
            self._part.unlink()
        size_bytes = self._wanted.size_bytes + self._count
        with _opened(self._part, "a+b") as stream:
            if stream.seek(0, os.SEEK_END) != size_bytes:
                stream.truncate(0)
                stream.truncate(size_bytes)
            stream.seek(self._wanted.size_bytes)
            marks = stream.read(self._count)
        return {number for number in range(self._count) if marks[number : number + 1] == _THERE}

    def _start_anew(self) -> None:
        self._part.unlink()
        self.tally.add(-self._wanted.size_bytes)
        self._hash, self._hashed = hashlib.sha256(), 0
        self._streaming = threading.Lock()


class _Sink:
    """Where the bytes of a file go, from the begin of a range on, in order; each range is marked when it is there.

    Two threads may bring the same range, one of them as a part of the whole file: its bytes are counted once.
    """

    def __init__(self, file: _Ranged, stream: FileIO, number: int) -> None:
        self._file, self._stream = file, stream
        self._begin(number)

    def __call__(self, chunk: bytes | memoryview) -> None:
        while chunk:
            piece, chunk = chunk[: self._end - self._at], chunk[self._end - self._at :]
            if self._is_wanted:
                _write(self._stream, piece)
                self._file.tally.add(len(piece))
                self._counted += len(piece)
            self._at += len(piece)
            if self._at == self._end:
                if self._is_wanted and not self._file.mark(self._number, self._stream):
                    self.forget()
                self._begin(self._number + 1)

    def forget(self) -> None:
        """The bytes of this range that came so far do not count."""
        self._file.tally.add(-self._counted)

    def _begin(self, number: int) -> None:
        self._number, self._counted = number, 0
        self._at, self._end = self._file.span(number)
        self._is_wanted = number not in self._file.there
        self._stream.seek(self._at)


class _NoRanges(Exception):  # noqa: N818  (never seen by callers)
    """Something on the way answers with the whole file whatever range is asked for."""


class _Fetch:
    """The bytes from `start` to before `end` on their way to `take`, each once, over any number of connections.

    `is_range`: raises _NoRanges when they cannot be had without those before them.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        take: Callable[[bytes], None],
        start: int = 0,
        end: int | None = None,
        *,
        is_range: bool = False,
    ) -> None:
        self._client, self._url, self._take = client, url, take
        self._have, self._end, self._is_range = start, end, is_range

    def run(self) -> None:
        """Raises Unreachable when nothing more came for as long as the client has patience."""
        patience = self._client.transport.patience()
        while True:
            before = self._have
            try:
                self._rest()
            except httpx2.TransportError as error:
                if self._have == self._end:
                    return
                if self._have > before:
                    patience.reset()
                patience.wait(error, what=f"GET {self._url}")
            else:
                return

    def _rest(self) -> None:
        # Compressed answers would make offsets meaningless.
        headers = {"Accept-Encoding": "identity"}
        if self._have or self._is_range:
            headers["Range"] = f"bytes={self._have}-{self._end - 1 if self._end is not None else ''}"
        with self._client.transport.stream("GET", self._url, headers=headers) as response:
            self._take_from(response)
        if self._end is not None and self._have < self._end:
            raise DamagedDownload(self._url, f"fewer than the announced {self._end} bytes came")

    def _take_from(self, response: httpx2.Response) -> None:
        skipped = self._skipped(response)
        # A body that is as long as it should be is read to its end, so that the connection is used again.
        left = "" if self._end is None else str(self._end - self._have + skipped)
        is_exact = response.headers.get("Content-Length") == left
        for chunk in response.iter_raw():
            wanted = chunk[skipped : None if self._end is None else skipped + self._end - self._have]
            skipped = max(0, skipped - len(chunk))
            if wanted:
                self._have += len(wanted)
                self._take(wanted)
            if self._have == self._end and not is_exact:
                return  # neither the rest of a huge file nor of an answer that never ends

    def _skipped(self, response: httpx2.Response) -> int:
        """How many bytes come first that are there already. Raises DamagedDownload for a range nobody asked for."""
        if response.status_code != httpx2.codes.PARTIAL_CONTENT:
            if self._is_range:
                raise _NoRanges
            return self._have
        said = response.headers.get("Content-Range", "")
        first, _, last = said.removeprefix("bytes ").partition("/")[0].partition("-")
        if first != str(self._have) or (self._end is not None and last != str(self._end - 1)):
            raise DamagedDownload(
                self._url, f"asked for bytes from {self._have} on, it answers with {said or 'others'!r}"
            )
        return 0


def _opened(part: Path, mode: str) -> FileIO:
    """A part file, never one that a link leads to. Without a buffer: what is written is there."""
    return cast("FileIO", open(part, mode, buffering=0, opener=_no_link))


def _write(stream: FileIO, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]


def _sync_content(stream: FileIO) -> None:
    """Wait until what was written is on the disk, at least the bytes themselves."""
    getattr(os, "fdatasync", os.fsync)(stream.fileno())


def _unless_busy(lock: threading.Lock, work: Callable[[], None]) -> None:
    """Do the work, unless another thread is at it."""
    if lock.acquire(blocking=False):
        try:
            work()
        finally:
            lock.release()


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
