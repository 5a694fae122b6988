"""Snapshots: opened, filled, sealed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.files import FileEntry, manifest_digest
from keelway.contracts.snapshots import Snapshot, SnapshotCreate, SnapshotState, SnapshotUpload
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions, batched
from keelway_api.errors import NotFound, WrongState
from keelway_api.manifests import service as manifests
from keelway_api.manifests.opening import open_manifest
from keelway_api.manifests.tables import ManifestFileTable, ManifestTable
from keelway_api.snapshots.tables import SnapshotTable
from keelway_api.workspaces.tables import WorkspaceTable


async def open_snapshot(session: AsyncSession, scope: Scope, body: SnapshotCreate) -> SnapshotUpload:
    """The snapshot of these files: a new one, or the one that was opened before with the same content."""
    digest = manifest_digest(body.files)
    row = await _find(session, scope, digest)
    if row is None:
        row = await _insert(session, scope, body, digest)
    elif await manifests.reopen(session, scope.principal, row.manifest_id):  # given up by another, or damaged since
        row.state = SnapshotState.UPLOADING
        await session.flush()
    return await upload(session, row)


async def _insert(session: AsyncSession, scope: Scope, body: SnapshotCreate, digest: str) -> SnapshotTable:
    manifest = await open_manifest(session, scope, body.files)
    row = await session.scalar(
        insert(SnapshotTable)
        .values(
            workspace_id=scope.workspace_id,
            digest=digest,
            manifest_id=manifest.id,
            state=SnapshotState.UPLOADING,
            created_by=scope.principal.name,
        )
        .on_conflict_do_nothing()
        .returning(SnapshotTable)
    )
    if row is None:  # somebody opened the same one at this moment: theirs counts
        await session.delete(manifest)
        return await get_row(session, scope, digest)
    await audit.record(
        session, scope.principal, "snapshot.open", f"snapshots/{digest}", workspace_id=scope.workspace_id
    )
    return row


async def commit_snapshot(sessions: Sessions, store: BlobStore, scope: Scope, digest: str) -> Snapshot:
    """Seal a snapshot. Committing twice is one commit. Raises NotFound, BlobsMissing."""
    async with sessions() as session:
        row = await get_row(session, scope, digest)
    if row.state == SnapshotState.UPLOADING:
        await manifests.check_bytes(sessions, store, row.manifest_id, subject=f"snapshot {digest[:12]}")
    async with sessions.begin() as session:
        row = await get_row(session, scope, digest)
        await session.refresh(row, with_for_update=True)
        if row.state != SnapshotState.READY:
            row.state, row.whole_at = SnapshotState.READY, row.whole_at or func.now()
            await manifests.seal(session, row.manifest_id)
            subject = f"snapshots/{digest}"
            await audit.record(session, scope.principal, "snapshot.commit", subject, workspace_id=scope.workspace_id)
        return await contract(session, row)


async def get_row(session: AsyncSession, scope: Scope, digest: str) -> SnapshotTable:
    """The row of a snapshot. Raises NotFound."""
    row = await _find(session, scope, digest)
    if row is None:
        raise NotFound("snapshot", digest)
    return row


async def require_ready(session: AsyncSession, scope: Scope, digest: str) -> SnapshotTable:
    """A snapshot whose bytes are all there. Raises NotFound, WrongState."""
    row = await get_row(session, scope, digest)
    if row.state != SnapshotState.READY:
        raise WrongState(f"snapshot {digest}", row.state, "a committed snapshot")
    return row


async def files_of(session: AsyncSession, snapshot_id: UUID) -> list[FileEntry]:
    """The files of a snapshot."""
    row = await session.get_one(SnapshotTable, snapshot_id)
    return await manifests.files_of(session, row.manifest_id)


async def upload(session: AsyncSession, row: SnapshotTable) -> SnapshotUpload:
    """A snapshot with what is missing of it."""
    made = await contract(session, row)
    missing = [] if row.state == SnapshotState.READY else await manifests.missing_of(session, row.manifest_id)
    return SnapshotUpload(**made.model_dump(), missing=missing)


async def contract(session: AsyncSession, row: SnapshotTable) -> Snapshot:
    """A snapshot as it goes over the wire."""
    files = await manifests.files_of(session, row.manifest_id)
    return Snapshot(
        digest=row.digest,
        state=SnapshotState(row.state),
        files=files,
        size_bytes=sum(file.size_bytes for file in files),
        created_at=row.created_at,
        created_by=row.created_by,
    )


async def _find(session: AsyncSession, scope: Scope, digest: str) -> SnapshotTable | None:
    return await session.scalar(
        select(SnapshotTable).where(SnapshotTable.workspace_id == scope.workspace_id, SnapshotTable.digest == digest)
    )


async def release(session: AsyncSession, snapshot_id: UUID) -> None:
    """Remove a snapshot, unless something refers to it."""
    row = await session.get_one(SnapshotTable, snapshot_id)
    try:
        async with session.begin_nested():
            await session.execute(delete(SnapshotTable).where(SnapshotTable.id == snapshot_id))
    except IntegrityError:
        return
    await session.execute(delete(ManifestTable).where(ManifestTable.id == row.manifest_id))


async def expire_uploads(session: AsyncSession, age: timedelta) -> int:
    """Remove snapshots whose first upload nobody went on with for so long."""
    never_whole = and_(SnapshotTable.state == SnapshotState.UPLOADING, SnapshotTable.whole_at.is_(None))
    return await manifests.give_up(session, SnapshotTable, never_whole, age)


async def used_by(session: AsyncSession, digests: Sequence[str]) -> dict[str, list[str]]:
    """'workspace/snapshot path' of every file of a snapshot, by the digest of its bytes."""
    found: dict[str, list[str]] = {}
    for some in batched(digests):
        name = func.concat(WorkspaceTable.name, "/snapshot ", func.left(SnapshotTable.digest, 12))
        wanted = (
            select(ManifestFileTable.sha256, func.concat(name, " ", ManifestFileTable.path).label("file"))
            .join(SnapshotTable, SnapshotTable.manifest_id == ManifestFileTable.manifest_id)
            .join(WorkspaceTable, WorkspaceTable.id == SnapshotTable.workspace_id)
            .where(ManifestFileTable.sha256.in_(some))
            .order_by("file")
        )
        for row in await session.execute(wanted):
            found.setdefault(row.sha256, []).append(row.file)
    return found
