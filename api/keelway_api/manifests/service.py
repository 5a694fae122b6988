"""The upload flow that models and snapshots share: open a manifest, send what is missing, seal it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import anyio
import anyio.to_thread
from sqlalchemy import ColumnElement, Integer, and_, delete, exists, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from keelway.contracts.access import Role
from keelway.contracts.files import BlobUpload, FileEntry, MissingFile, manifest_digest
from keelway_api.auth.principal import Principal
from keelway_api.blobs import upload
from keelway_api.blobs.objects import StoredBlob, StoredFile
from keelway_api.blobs.store import BlobStore
from keelway_api.blobs.tables import BlobTable, BlobUploadTable
from keelway_api.blobs.upload import Announced, Receiver
from keelway_api.db import Sessions, batched
from keelway_api.errors import (
    BlobNotExpected,
    BlobsMissing,
    CorruptBytes,
    DependencyAway,
    DigestMismatch,
    OffsetMismatch,
)
from keelway_api.manifests.tables import ManifestFileTable, ManifestTable

LOOKUP_BATCH = 10_000
STAT_AT_ONCE = 16
EXPIRED_AT_ONCE = 50  # each may have 100,000 files


async def files_of(session: AsyncSession, manifest_id: UUID) -> list[FileEntry]:
    """All files, in the order of their paths."""
    rows = await session.execute(
        select(ManifestFileTable.path, ManifestFileTable.size_bytes, ManifestFileTable.sha256)
        .where(ManifestFileTable.manifest_id == manifest_id)
        .order_by(ManifestFileTable.path)
    )
    return [FileEntry(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]


async def stored_files(session: AsyncSession, manifest_id: UUID, *, path: str | None = None) -> list[StoredFile]:
    """All files, or the one under exactly this path, with the place of their bytes.

    Raises CorruptBytes for a file whose bytes have no place, or another size.
    """
    wanted = (
        select(ManifestFileTable.path, ManifestFileTable.size_bytes, BlobTable)
        .outerjoin(BlobTable, BlobTable.sha256 == ManifestFileTable.sha256)
        .where(ManifestFileTable.manifest_id == manifest_id)
        .order_by(ManifestFileTable.path)
    )
    if path is not None:
        wanted = wanted.where(ManifestFileTable.path == path)
    return [_stored(*row) for row in (await session.execute(wanted)).tuples()]


def _stored(path: str, size_bytes: int, blob: BlobTable | None) -> StoredFile:
    if blob is None:
        raise CorruptBytes(f"Nobody knows where the bytes of {path!r} are.", path=path)
    if blob.size_bytes != size_bytes:
        raise CorruptBytes(f"{path!r} has {blob.size_bytes} bytes, not {size_bytes}.", path=path)
    return StoredFile(path, blob.stored)


async def check_digest(digest: str, files: Sequence[StoredFile]) -> None:
    """Raises CorruptBytes unless this is the digest of a manifest of these files."""
    actual = await anyio.to_thread.run_sync(manifest_digest, files)
    if actual != digest:
        raise CorruptBytes("The manifest has not the version's digest.", expected=digest, actual=actual)


async def note_lost(session: AsyncSession, manifest_id: UUID | None = None) -> int:
    """Note of bytes that files should have, and that no blob is known for, that they are missing; how many.

    They are looked for, told and mended from then on like others that the store has lost.
    """
    has_blob = exists().where(BlobTable.sha256 == ManifestFileTable.sha256)
    lost = (
        select(
            ManifestFileTable.sha256,
            func.max(ManifestFileTable.size_bytes),
            func.gen_random_uuid(),
            literal(upload.PART_BYTES),
            literal([upload.FIRST_EPOCH], ARRAY(Integer)),
            func.to_timestamp(0),  # before all others
            func.now(),
        )
        .where(ManifestFileTable.is_received, ~has_blob)
        .group_by(ManifestFileTable.sha256)
    )
    if manifest_id is None:
        await session.execute(text("SET LOCAL statement_timeout = '5min'"))  # of all files there are
    else:
        lost = lost.where(ManifestFileTable.manifest_id == manifest_id)
    columns = ("sha256", "size_bytes", "upload_id", "part_bytes", "part_epochs", "verified_at", "damaged_at")
    noted = insert(BlobTable).from_select(columns, lost).on_conflict_do_nothing()
    return len((await session.execute(noted.returning(BlobTable.sha256))).all())


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


async def expected(session: AsyncSession, principal: Principal, sha256: str, size_bytes: int | None) -> Announced:
    """What an open upload of the caller lists under this digest. Raises BlobNotExpected.

    Only one of several sizes can be true; a manifest with a wrong one must not stand in the way of the right one.
    """
    sizes = set(await session.scalars(_open_files(principal, sha256)))
    if not sizes:
        raise BlobNotExpected("No open upload of yours lists this sha256.", sha256=sha256)
    return Announced(sha256, size_bytes if size_bytes in sizes else max(sizes), principal.token_id)


async def progress(session: AsyncSession, principal: Principal, sha256: str, size_bytes: int | None) -> BlobUpload:
    """How much of a blob the caller has sent. Raises BlobNotExpected."""
    announced = await expected(session, principal, sha256, size_bytes)
    missing = _open_files(principal, sha256).where(ManifestFileTable.is_received.is_(False))
    is_stored = (await session.scalars(missing)).first() is None
    received = announced.size_bytes if is_stored else await upload.received_bytes(session, announced)
    return BlobUpload(sha256=sha256, size_bytes=announced.size_bytes, received_bytes=received, is_stored=is_stored)


async def receive(
    sessions: Sessions,
    store: BlobStore,
    principal: Principal,
    *,
    sha256: str,
    body: AsyncIterator[bytes],
    size_bytes: int | None,
    offset: int = 0,
) -> None:
    """Store one blob that an open upload of the caller lists, from `offset` on. No transaction is open meanwhile.

    Raises BlobNotExpected, DigestMismatch, OffsetMismatch, UploadTakenOver.
    """
    async with sessions.begin() as session:
        row = await upload.begin(session, await expected(session, principal, sha256, size_bytes), offset=offset)
    try:
        blob = await Receiver(sessions, store, row).run(body)
    except DigestMismatch:
        async with sessions.begin() as session:
            await upload.discard(session, row)
        raise
    except CorruptBytes as error:  # the store has lost a part of an earlier attempt
        async with sessions.begin() as session:
            await upload.discard(session, row)
        raise OffsetMismatch(offset, 0) from error
    async with sessions.begin() as session:
        await upload.keep(session, row, blob)
        await _mark_received(session, principal, blob)


async def _mark_received(session: AsyncSession, principal: Principal, blob: StoredBlob) -> None:
    """For all open uploads of the workspaces that they were sent for: who may read them there needs not send them.

    Not for those of other workspaces: somebody who only knows the digest may have opened one.
    """
    lists = (ManifestFileTable.sha256 == blob.sha256, ManifestFileTable.size_bytes == blob.size_bytes)
    # Once each, however often it lists these bytes; and never joined with itself, which could take its square.
    listing = select(ManifestFileTable.manifest_id).where(*lists).distinct().cte("listing")
    is_listing = ManifestTable.id.in_(select(listing.c.manifest_id))
    ours = aliased(ManifestTable)
    workspaces = select(ours.workspace_id).where(
        ours.id.in_(select(listing.c.manifest_id)), ours.id.in_(_open_manifests(principal))
    )
    wanted = (
        select(ManifestTable.id)
        .where(is_listing, ManifestTable.is_sealed.is_(False), ManifestTable.workspace_id.in_(workspaces))
        .order_by(ManifestTable.id)
        .with_for_update(of=ManifestTable)
    )
    for ids in batched(list(await session.scalars(wanted))):
        is_new = ManifestFileTable.is_received.is_(False)
        files = update(ManifestFileTable).where(*lists, is_new, ManifestFileTable.manifest_id.in_(ids))
        await session.execute(files.values(is_received=True))
        await session.execute(update(ManifestTable).where(ManifestTable.id.in_(ids)).values(touched_at=func.now()))


def _open_manifests(principal: Principal):
    wanted = select(ManifestTable.id).where(
        ManifestTable.is_sealed.is_(False), ManifestTable.token_id == principal.token_id
    )
    if principal.may(Role.CONTRIBUTOR, None) or principal.may(Role.WORKER, None):
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
    async with sessions.begin() as session:
        if missing := await missing_of(session, manifest_id):
            raise BlobsMissing(subject, [file.path for file in missing])
        await note_lost(session, manifest_id)
        files = await stored_files(session, manifest_id)
    lost: set[str] = set()
    blobs = {file.blob.sha256: file.blob for file in files}
    pieces = ((blob, piece) for blob in blobs.values() for piece in blob.parts)

    async def look() -> None:
        for blob, piece in pieces:
            if await store.size(piece.key) != piece.length:
                lost.add(blob.sha256)

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(STAT_AT_ONCE):
                tasks.start_soon(look)
    except* DependencyAway as group:
        raise DependencyAway("s3") from group
    if lost:
        await _mark_lost(sessions, manifest_id, [blobs[sha256] for sha256 in sorted(lost)])
        raise BlobsMissing(subject, sorted(file.path for file in files if file.blob.sha256 in lost))


async def _mark_lost(sessions: Sessions, manifest_id: UUID, lost: list[StoredBlob]) -> None:
    """The store does not have what we were told it has: ask for the bytes again."""
    async with sessions.begin() as session:
        for some in batched(lost):
            digests = [blob.sha256 for blob in some]
            await session.execute(
                update(ManifestFileTable)
                .where(ManifestFileTable.manifest_id == manifest_id, ManifestFileTable.sha256.in_(digests))
                .values(is_received=False)
            )
            # By upload: somebody may have sent the bytes again since they were looked for.
            uploads = [blob.upload_id for blob in some]
            damaged = update(BlobTable).where(BlobTable.sha256.in_(digests), BlobTable.upload_id.in_(uploads))
            await session.execute(damaged.values(damaged_at=func.now()))


class Opened(Protocol):
    """A table whose rows are uploads until they are committed."""

    id: Any
    manifest_id: Any


async def give_up(session: AsyncSession, table: type[Opened], is_open: ColumnElement[bool], age: timedelta) -> int:
    """Remove open uploads that nobody went on with for so long, with their manifests; how many, a batch at a time."""
    wanted = (
        select(table.id, table.manifest_id)
        .join(ManifestTable, ManifestTable.id == table.manifest_id)
        .where(is_open, _is_abandoned(age))
        .limit(EXPIRED_AT_ONCE)
        .with_for_update(of=table, skip_locked=True)
    )
    rows = (await session.execute(wanted)).all()
    await session.execute(delete(table).where(table.id.in_([row.id for row in rows])))
    await session.execute(delete(ManifestTable).where(ManifestTable.id.in_([row.manifest_id for row in rows])))
    return len(rows)


def _is_abandoned(age: timedelta) -> ColumnElement[bool]:
    """Nothing came in so long: neither a whole file nor a part of one."""
    arrives = (
        exists()
        .where(ManifestFileTable.manifest_id == ManifestTable.id, BlobUploadTable.sha256 == ManifestFileTable.sha256)
        .where(BlobUploadTable.updated_at >= func.now() - age)
    )
    return and_(ManifestTable.touched_at < func.now() - age, ~arrives)


async def size_of(session: AsyncSession, manifest_id: UUID) -> int:
    """Bytes of all its files."""
    return (await session.get_one(ManifestTable, manifest_id)).size_bytes


async def reopen(session: AsyncSession, principal: Principal, manifest_id: UUID) -> bool:
    """Have the caller send what is damaged, or not there yet; whether there is anything."""
    await session.get_one(ManifestTable, manifest_id, with_for_update=True)
    damaged = exists().where(BlobTable.sha256 == ManifestFileTable.sha256, BlobTable.damaged_at.is_not(None))
    ours = ManifestFileTable.manifest_id == manifest_id
    await session.execute(update(ManifestFileTable).where(ours, damaged).values(is_received=False))
    missing = await session.scalar(select(exists().where(ours, ManifestFileTable.is_received.is_(False))))
    if missing:
        values = {"is_sealed": False, "token_id": principal.token_id, "touched_at": func.now()}
        await session.execute(update(ManifestTable).where(ManifestTable.id == manifest_id).values(values))
    return bool(missing)


async def seal(session: AsyncSession, manifest_id: UUID) -> None:
    """From here on the files never change."""
    await session.execute(update(ManifestTable).where(ManifestTable.id == manifest_id).values(is_sealed=True))


async def stored_blob(session: AsyncSession, sha256: str) -> StoredBlob | None:
    """Where a blob's bytes lie."""
    row = await session.get(BlobTable, sha256)
    return row.stored if row else None
