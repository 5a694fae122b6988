"""Blobs: bytes in for an open upload, bytes out for nodes."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from keelway.contracts.access import Role
from keelway.contracts.base import SHA256
from keelway.contracts.files import BlobUpload
from keelway_api.auth.dependencies import Caller, everywhere
from keelway_api.blobs.answers import file_response
from keelway_api.blobs.objects import StoredFile
from keelway_api.blobs.turns import Turns
from keelway_api.db import Session, SessionFactory
from keelway_api.errors import InvalidRequest, NotFound
from keelway_api.manifests import service

router = APIRouter(tags=["blobs"])
Digest = Annotated[str, Path(pattern=SHA256)]
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
NOTHING_LEFT = re.compile(r"bytes \*/(\d{1,18})")  # all parts came, the last answer did not


@router.put("/blobs/{sha256}", status_code=204)
async def put_blob(
    sha256: Digest,
    request: Request,
    sessions: SessionFactory,
    caller: Caller,
    content_range: Annotated[str | None, Header()] = None,
) -> None:
    """Send the bytes of a file that an open upload of yours lists; with Content-Range, the rest of them."""
    length = request.headers.get("content-length")
    offset, size_bytes = _span(content_range) if content_range else (0, int(length) if length else None)
    turns: Turns = request.app.state.turns
    async with turns.one():
        await service.receive(
            sessions,
            request.app.state.blobs,
            caller,
            sha256=sha256,
            body=turns.watched(request.stream()),
            size_bytes=size_bytes,
            offset=offset,
        )


@router.get("/blobs/{sha256}/upload")
async def show_upload(
    sha256: Digest, session: Session, caller: Caller, size_bytes: Annotated[int | None, Query(ge=0)] = None
) -> BlobUpload:
    """How much of a file is stored already: an interrupted upload of yours goes on from there."""
    return await service.progress(session, caller, sha256, size_bytes)


@router.get("/blobs/{sha256}", dependencies=[Depends(everywhere(Role.WORKER))], response_class=Response)
async def get_blob(sha256: Digest, request: Request, sessions: SessionFactory) -> Response:
    """The bytes of a blob, for nodes that materialise models."""
    async with sessions() as session:
        blob = await service.stored_blob(session, sha256)
    if blob is None:
        raise NotFound("blob", sha256)
    return await file_response(request, request.app.state.blobs, StoredFile(sha256, blob))


def _span(content_range: str) -> tuple[int, int]:
    """(offset, size of the whole) of a Content-Range that goes to the end. Raises InvalidRequest."""
    if nothing_left := NOTHING_LEFT.fullmatch(content_range):
        return int(nothing_left[1]), int(nothing_left[1])
    found = CONTENT_RANGE.fullmatch(content_range)
    if found is None or int(found[2]) + 1 != int(found[3]) or int(found[1]) > int(found[2]):
        raise InvalidRequest("header.content-range", "must be 'bytes FIRST-LAST/SIZE', where LAST is the last byte")
    return int(found[1]), int(found[3])
