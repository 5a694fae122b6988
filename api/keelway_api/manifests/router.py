"""Blobs: bytes in for an open upload, bytes out for nodes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from keelway.contracts.access import Role
from keelway.contracts.base import SHA256
from keelway.contracts.files import FileEntry
from keelway_api.auth.dependencies import Caller, everywhere
from keelway_api.db import SessionFactory
from keelway_api.errors import NotFound
from keelway_api.manifests import service
from keelway_api.manifests.streams import file_response

router = APIRouter(tags=["blobs"])
Digest = Annotated[str, Path(pattern=SHA256)]


@router.put("/blobs/{sha256}", status_code=204)
async def put_blob(sha256: Digest, request: Request, sessions: SessionFactory, caller: Caller) -> None:
    """Send the bytes of a file that an open upload of yours lists."""
    length = request.headers.get("content-length")
    await service.receive(
        sessions,
        request.app.state.blobs,
        caller,
        sha256=sha256,
        body=request.stream(),
        content_length=int(length) if length else None,
    )


@router.get("/blobs/{sha256}", dependencies=[Depends(everywhere(Role.WORKER))], response_class=Response)
async def get_blob(sha256: Digest, request: Request, sessions: SessionFactory) -> Response:
    """The bytes of a blob, for nodes that materialise models."""
    async with sessions() as session:
        size_bytes = await service.blob_size(session, sha256)
    if size_bytes is None:
        raise NotFound("blob", sha256)
    file = FileEntry(path=sha256, size_bytes=size_bytes, sha256=sha256)
    return await file_response(request, request.app.state.blobs, file)
