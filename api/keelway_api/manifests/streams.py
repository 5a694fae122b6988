"""Bytes on their way out: one file with ranges, or a whole manifest as a tar."""

from __future__ import annotations

import base64
import re
import tarfile
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from keelway.contracts.files import FileEntry
from keelway_api.blobs import BlobStore, verified
from keelway_api.errors import RangeNotSatisfiable

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def file_response(request: Request, store: BlobStore, file: FileEntry) -> Response:
    """A file as an attachment: ETag is its sha256, one Range is honoured, If-None-Match too."""
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{_base64(file.sha256)}:",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.rsplit('/', 1)[-1], safe='')}",
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    span = _range(request.headers.get("range"), request.headers.get("if-range"), etag, file.size_bytes)
    offset, length = span or (0, file.size_bytes)
    if span:
        headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{file.size_bytes}"
    headers["Content-Length"] = str(length)
    media_type = "application/octet-stream"
    if length == 0:
        return Response(b"", headers=headers, media_type=media_type)
    chunks = await store.open(file.sha256, offset=offset, length=length)
    body = chunks if length < file.size_bytes else verified(chunks, file.sha256)
    return StreamingResponse(body, 206 if span else 200, headers=headers, media_type=media_type)


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


def archive_response(store: BlobStore, files: Sequence[FileEntry], *, name: str, digest: str) -> StreamingResponse:
    """All files as one uncompressed tar, streamed; every file is verified on the way."""
    headers = {"ETag": f'"{digest}"', "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return StreamingResponse(_tar(store, files), headers=headers, media_type="application/x-tar")


async def _tar(store: BlobStore, files: Sequence[FileEntry]) -> AsyncIterator[bytes]:
    for file in files:
        entry = tarfile.TarInfo(file.path)
        entry.size, entry.mode = file.size_bytes, 0o644
        yield entry.tobuf(tarfile.PAX_FORMAT)
        if file.size_bytes:
            async for chunk in verified(await store.open(file.sha256, offset=0, length=file.size_bytes), file.sha256):
                yield chunk
        yield bytes(-file.size_bytes % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
