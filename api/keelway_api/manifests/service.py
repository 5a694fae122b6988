"""The upload flow that models and snapshots share: open a manifest, send what is missing, seal it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import anyio
from sqlalchemy import exists, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Role
from keelway.contracts.files import FileEntry, ManifestFile, MissingFile, manifest_digest
from keelway_api.auth.dependencies import Scope
from keelway_api.auth.principal import Principal
from keelway_api.blobs import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import BlobNotExpected, BlobsMissing, DependencyAway
from keelway_api.manifests.tables import BlobTable, ManifestFileTable, ManifestTable

LOOKUP_BATCH = 10_000
STAT_AT_ONCE = 16


async def open_manifest(session: AsyncSession, scope: Scope, files: Sequence[ManifestFile]) -> ManifestTable:
    """A new manifest; bytes that this caller could read anyway count as received."""
    present = await _readable(session, scope.principal, {file.sha256: file.size_bytes for file in files})
    row = ManifestTable(
        workspace_id=scope.workspace_id,
        digest=manifest_digest(files),
        size_bytes=sum(file.size_bytes for file in files),
    )
    session.add(row)
    await session.flush()
    await session.execute(
        insert(ManifestFileTable),
        [
            {
                "manifest_id": row.id,
                "path": file.path,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "is_received": file.sha256 in present,
            }
            for file in files
        ],
    )
    return row


async def _readable(session: AsyncSession, principal: Principal, sizes: dict[str, int]) -> set[str]:
    """Which digests the store holds for a workspace that this principal may read.

    A digest that only others hold is never a shortcut: knowing a hash must not give its bytes.
    """
    found: set[str] = set()
    digests = list(sizes)
    for start in range(0, len(digests), LOOKUP_BATCH):
        wanted = (
            select(BlobTable.sha256, BlobTable.size_bytes)
            .where(BlobTable.sha256.in_(digests[start : start + LOOKUP_BATCH]))
            .where(
                exists()
                .where(ManifestFileTable.sha256 == BlobTable.sha256, ManifestFileTable.is_received)
                .where(ManifestFileTable.manifest_id == ManifestTable.id)
                .where(_visible(principal))
            )
        )
        found |= {row.sha256 for row in await session.execute(wanted) if row.size_bytes == sizes[row.sha256]}
    return found


def _visible(principal: Principal):
    ids = principal.visible_workspaces
    return ManifestTable.workspace_id.is_not(None) if ids is None else ManifestTable.workspace_id.in_(ids)


async def files_of(session: AsyncSession, manifest_id: UUID) -> list[FileEntry]:
    """All files, in the order of their paths."""
    rows = await session.execute(
        select(ManifestFileTable.path, ManifestFileTable.size_bytes, ManifestFileTable.sha256)
        .where(ManifestFileTable.manifest_id == manifest_id)
        .order_by(ManifestFileTable.path)
    )
    return [FileEntry(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]


async def file_at(session: AsyncSession, manifest_id: UUID, path: str) -> FileEntry | None:
    """The file under exactly this path."""
    row = await session.get(ManifestFileTable, (manifest_id, path))
    return FileEntry(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) if row else None


async def missing_of(session: AsyncSession, manifest_id: UUID) -> list[MissingFile]:
    """Files whose bytes are still to come, and where to PUT them."""
    rows = await session.scalars(
        select(ManifestFileTable)
        .where(ManifestFileTable.manifest_id == manifest_id, ManifestFileTable.is_received.is_(False))
        .order_by(ManifestFileTable.path)
    )
    return [
        MissingFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256, upload_url=f"/v1/blobs/{row.sha256}")
        for row in rows
    ]


async def receive(
    sessions: Sessions,
    store: BlobStore,
    principal: Principal,
    *,
    sha256: str,
    body: AsyncIterator[bytes],
    content_length: int | None,
) -> None:
    """Store one blob that an open upload of the caller lists. No transaction is open while bytes flow.

    Raises BlobNotExpected, DigestMismatch.
    """
    async with sessions() as session:
        sizes = set(await session.scalars(_open_files(principal, sha256)))
    if not sizes:
        raise BlobNotExpected("No open upload of yours lists this sha256.", sha256=sha256)
    # Only one of several sizes can be true; a manifest with a wrong one must not stand in the way of the right one.
    size_bytes = content_length if content_length in sizes else max(sizes)
    await store.put(sha256, size_bytes, body)
    async with sessions.begin() as session:
        await session.execute(upsert(BlobTable).values(sha256=sha256, size_bytes=size_bytes).on_conflict_do_nothing())
        await session.execute(
            update(ManifestFileTable)
            .where(ManifestFileTable.sha256 == sha256, ManifestFileTable.size_bytes == size_bytes)
            .where(ManifestFileTable.manifest_id.in_(_open_manifests(principal)))
            .values(is_received=True)
        )


def _open_manifests(principal: Principal):
    wanted = select(ManifestTable.id).where(ManifestTable.is_sealed.is_(False))
    if principal.may(Role.CONTRIBUTOR, None):
        return wanted
    ids = [where for _, where in principal.grants if where and principal.may(Role.CONTRIBUTOR, where)]
    return wanted.where(ManifestTable.workspace_id.in_(ids))


def _open_files(principal: Principal, sha256: str):
    return (
        select(ManifestFileTable.size_bytes)
        .distinct()
        .where(ManifestFileTable.sha256 == sha256, ManifestFileTable.manifest_id.in_(_open_manifests(principal)))
    )


async def check_bytes(sessions: Sessions, store: BlobStore, manifest_id: UUID, *, subject: str) -> None:
    """Every file's bytes were received and lie in the store with the right size. Raises BlobsMissing."""
    async with sessions() as session:
        missing = await missing_of(session, manifest_id)
        files = await files_of(session, manifest_id)
    if missing:
        raise BlobsMissing(subject, [file.path for file in missing])
    lost: list[str] = []
    limiter = anyio.CapacityLimiter(STAT_AT_ONCE)

    async def look(file: FileEntry) -> None:
        async with limiter:
            if await store.size(file.sha256) != file.size_bytes:
                lost.append(file.path)

    try:
        async with anyio.create_task_group() as tasks:
            for file in {file.sha256: file for file in files}.values():
                tasks.start_soon(look, file)
    except* DependencyAway as group:
        raise DependencyAway("s3") from group
    if lost:
        await _mark_lost(sessions, manifest_id, lost)
        raise BlobsMissing(subject, sorted(lost))


async def _mark_lost(sessions: Sessions, manifest_id: UUID, paths: list[str]) -> None:
    """The store does not have what we were told it has: ask for the bytes again."""
    async with sessions.begin() as session:
        await session.execute(
            update(ManifestFileTable)
            .where(ManifestFileTable.manifest_id == manifest_id, ManifestFileTable.path.in_(paths))
            .values(is_received=False)
        )


async def seal(session: AsyncSession, manifest_id: UUID) -> None:
    """From here on the files never change."""
    await session.execute(update(ManifestTable).where(ManifestTable.id == manifest_id).values(is_sealed=True))


async def blob_size(session: AsyncSession, sha256: str) -> int | None:
    """Size of a stored blob."""
    return await session.scalar(select(BlobTable.size_bytes).where(BlobTable.sha256 == sha256))
