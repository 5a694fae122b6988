"""Bytes on their way out: one file with ranges, or a whole manifest as a tar."""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote

import anyio.to_thread
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from keelway.contracts.files import tar_header, tar_padding
from keelway_api.blobs.objects import StoredBlob, StoredFile
from keelway_api.blobs.store import BlobStore
from keelway_api.errors import CorruptBytes, RangeNotSatisfiable

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def file_response(request: Request, store: BlobStore, file: StoredFile) -> Response:
    """A file as an attachment: ETag is its sha256, one Range is honoured, If-None-Match too.

    A range is what the store has there: only who has all of them can verify it, with the sha256.
    """
    blob = file.blob
    etag = f'"{blob.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{_base64(blob.sha256)}:",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.rsplit('/', 1)[-1], safe='')}",
    }
    if knows(request, etag):
        return Response(status_code=304, headers=headers)
    span = _range(request.headers.get("range"), request.headers.get("if-range"), etag, blob.size_bytes)
    offset, length = span or (0, blob.size_bytes)
    if span:
        headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{blob.size_bytes}"
    headers["Content-Length"] = str(length)
    media_type = "application/octet-stream"
    if length == 0:
        return Response(b"", headers=headers, media_type=media_type)
    chunks = await store.open(blob.pieces(offset, length))
    body = chunks if length < blob.size_bytes else verified(chunks, blob.sha256)
    return StreamingResponse(body, 206 if span else 200, headers=headers, media_type=media_type)


def knows(request: Request, etag: str) -> bool:
    """Whether If-None-Match says that the caller has this already (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return bool(tags & {"*", etag})


def _range(header: str | None, if_range: str | None, etag: str, size_bytes: int) -> tuple[int, int] | None:
    """(offset, length) of one byte range; None to send everything. Raises RangeNotSatisfiable."""
    found = RANGE.fullmatch(header or "")
    if not found or found[0] == "bytes=-" or (if_range and if_range != etag):
        return None
    first, last = found[1], found[2]
    if not first:
        length = min(int(last), size_bytes)
        if length == 0:
            raise RangeNotSatisfiable(size_bytes)
        return size_bytes - length, length
    start = int(first)
    end = min(int(last), size_bytes - 1) if last else size_bytes - 1
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise RangeNotSatisfiable(size_bytes)
    return start, end - start + 1


def archive_response(store: BlobStore, files: Sequence[StoredFile], *, name: str, etag: str) -> StreamingResponse:
    """All files as one uncompressed tar, streamed; every file is verified on the way."""
    headers = {"ETag": etag, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return StreamingResponse(_tar(store, files), headers=headers, media_type="application/x-tar")


async def _tar(store: BlobStore, files: Sequence[StoredFile]) -> AsyncIterator[bytes]:
    for file in files:
        yield tar_header(file.path, file.blob.size_bytes)
        async for chunk in read_verified(store, file.blob):
            yield chunk
        yield tar_padding(file.blob.size_bytes)
    yield bytes(2 * tarfile.BLOCKSIZE)


async def read_verified(store: BlobStore, blob: StoredBlob) -> AsyncIterator[bytes]:
    """All bytes of a blob. Raises CorruptBytes before the last of them when they are not right."""
    async for chunk in verified(await store.open(blob.parts), blob.sha256):
        yield chunk


async def verified(chunks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """The same chunks, the last held back until the digest of all is right. Raises CorruptBytes otherwise.

    The answer has begun by then: raising cuts the connection, so the caller sees a short body and never a wrong one.
    """
    digest, held = hashlib.sha256(), b""
    async for chunk in chunks:
        await anyio.to_thread.run_sync(digest.update, chunk)
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != sha256:
        raise CorruptBytes("Stored bytes do not have their sha256.", expected=sha256, actual=digest.hexdigest())
    if held:
        yield held


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
