"""Images for workers: find what is stored already, and store what an operation made."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request

from keelway.contracts.access import Role
from keelway.contracts.base import SHA256
from keelway.contracts.images import KnownImage, SealFiles, StoreFiles
from keelway.contracts.snapshots import Snapshot, SnapshotUpload
from keelway_api.auth.dependencies import Caller, everywhere
from keelway_api.db import Session, SessionFactory
from keelway_api.images import service
from keelway_api.manifests.opening import check_sizes

router = APIRouter(prefix="/operations", tags=["operations"], dependencies=[Depends(everywhere(Role.WORKER))])
Digest = Annotated[str, Path(pattern=SHA256)]


@router.get("/{operation_id}/images/{identity}")
async def find_image(operation_id: UUID, identity: Digest, session: Session) -> KnownImage:
    """For workers: the stored image of this identity, with its files."""
    return await service.known(session, operation_id, identity)


@router.post("/{operation_id}/files")
async def open_files(
    operation_id: UUID, body: StoreFiles, request: Request, session: Session, caller: Caller
) -> SnapshotUpload:
    """For workers: open an upload of what the operation made; the answer says which bytes are missing."""
    check_sizes(body.files, request.app.state.settings.max_file_bytes)
    return await service.open_files(session, caller, operation_id, body)


@router.post("/{operation_id}/files/{digest}/commit")
async def seal_files(
    operation_id: UUID, digest: Digest, body: SealFiles, request: Request, sessions: SessionFactory, caller: Caller
) -> Snapshot:
    """For workers: all bytes are there."""
    return await service.seal_files(sessions, request.app.state.blobs, caller, operation_id, digest, body)
