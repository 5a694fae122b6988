"""Snapshots."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from keelway.contracts.base import SHA256
from keelway.contracts.snapshots import Snapshot, SnapshotCreate, SnapshotUpload
from keelway_api.auth.dependencies import Contributor, Reader
from keelway_api.db import Session, SessionFactory
from keelway_api.idempotency import Once
from keelway_api.manifests.opening import check_sizes
from keelway_api.snapshots import service

router = APIRouter(prefix="/workspaces/{workspace}/snapshots", tags=["snapshots"])
Digest = Annotated[str, Path(pattern=SHA256)]


@router.post("", status_code=201, response_model=SnapshotUpload)
async def open_snapshot(
    body: SnapshotCreate, scope: Contributor, request: Request, session: Session, once: Once
) -> Response:
    """Open a snapshot: the answer says where to PUT each blob that is missing."""
    check_sizes(body.files, request.app.state.settings.max_file_bytes)
    return await once.answer(session, 201, lambda: service.open_snapshot(session, scope, body))


@router.post("/{digest}/commit")
async def commit_snapshot(digest: Digest, scope: Contributor, request: Request, sessions: SessionFactory) -> Snapshot:
    """Seal a snapshot once every blob is there."""
    return await service.commit_snapshot(sessions, request.app.state.blobs, scope, digest)


@router.get("/{digest}")
async def show_snapshot(digest: Digest, scope: Reader, session: Session) -> SnapshotUpload:
    """One snapshot, with its files; while it is uploading also what is missing."""
    return await service.upload(session, await service.get_row(session, scope, digest))
