"""Looks at stored bytes again: disks rot, and object stores lose things."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio.to_thread
from sqlalchemy import Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.upkeep import Damage
from keelway_api.blobs.objects import StoredBlob
from keelway_api.blobs.store import BlobStore
from keelway_api.blobs.tables import BlobTable
from keelway_api.db import Sessions
from keelway_api.errors import CorruptBytes, DependencyAway

TRIES, PAUSE_S = 2, 2.0
AGAIN_S = 300


@dataclass(frozen=True)
class Checked:
    """A blob that was read again. `damage` is None when all is well."""

    sha256: str
    size_bytes: int
    damage: Damage | None


async def check_next(sessions: Sessions, store: BlobStore, *, before: datetime) -> Checked | None:
    """Read the blob that was not looked at for longest; None when all were looked at since `before`.

    Raises DependencyAway.
    """
    return await _check_first(sessions, store, _due(before))


async def check_damaged(sessions: Sessions, store: BlobStore) -> Checked | None:
    """Read a damaged blob once more: the store may only have been ill. None when it is too soon for all of them.

    After five minutes, then whenever it has been damaged for twice as long. Raises DependencyAway.
    """
    # What was wrong for long will hardly get right, and reading it over and over is what the others are waiting for.
    pause = func.greatest(timedelta(seconds=AGAIN_S), BlobTable.verified_at - BlobTable.damaged_at)
    is_due = (BlobTable.damaged_at.is_not(None), BlobTable.verified_at < func.now() - pause)
    return await _check_first(sessions, store, select(BlobTable).where(*is_due))


async def _check_first(sessions: Sessions, store: BlobStore, wanted: Select[BlobTable]) -> Checked | None:
    async with sessions() as session:
        row = await session.scalar(wanted.order_by(BlobTable.verified_at).limit(1))
    return await check(sessions, store, row.stored) if row else None


async def check(sessions: Sessions, store: BlobStore, blob: StoredBlob) -> Checked:
    """Read a blob and note what was found. Raises DependencyAway."""
    damage = await _patiently(store, blob)
    async with sessions.begin() as session:
        same = (BlobTable.sha256 == blob.sha256, BlobTable.upload_id == blob.upload_id)
        since = func.coalesce(BlobTable.damaged_at, func.now()) if damage else None
        await session.execute(
            update(BlobTable).where(*same).values(verified_at=func.clock_timestamp(), damaged_at=since)
        )
    return Checked(blob.sha256, blob.size_bytes, damage)


async def left(session: AsyncSession, *, before: datetime) -> int:
    """Number of blobs that were not looked at since `before`."""
    return await session.scalar(select(func.count()).select_from(_due(before).subquery())) or 0


def _due(before: datetime):
    return select(BlobTable).where(BlobTable.verified_at < before)


async def _patiently(store: BlobStore, blob: StoredBlob) -> Damage | None:
    """A store that looks at its own checksums refuses rotten bytes, which looks as if it were away.

    Raises DependencyAway when it really is.
    """
    for _ in range(TRIES):
        try:
            return await _damage(store, blob)
        except DependencyAway:
            await asyncio.sleep(PAUSE_S)
            await store.check()
    return Damage.UNREADABLE


async def _damage(store: BlobStore, blob: StoredBlob) -> Damage | None:
    digest, size_bytes = hashlib.sha256(), 0
    try:
        # Hasty: for bytes that it finds rotten a store may need a quarter of a minute each time that it is asked.
        async for chunk in await store.open(blob.parts, is_hasty=True):
            await anyio.to_thread.run_sync(digest.update, chunk)
            size_bytes += len(chunk)
    except CorruptBytes:
        return Damage.MISSING
    if size_bytes < blob.size_bytes:
        return Damage.TRUNCATED
    return None if digest.hexdigest() == blob.sha256 else Damage.CHANGED
