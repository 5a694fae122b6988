"""Objects that nothing refers to: remembered in the transaction that made them so, deleted later.

A late writer may still put a part of an upload that has ended; so nothing is deleted before it must have given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.blobs.objects import part_key, upload_prefix
from keelway_api.blobs.store import BlobStore
from keelway_api.blobs.tables import GarbageTable
from keelway_api.db import Sessions


async def add(session: AsyncSession, sha256: str, upload_id: UUID, *, kept_epochs: Sequence[int] = ()) -> None:
    """Have an upload's objects deleted, all but the parts of these epochs."""
    row = insert(GarbageTable).values(upload_id=upload_id, sha256=sha256, kept_epochs=list(kept_epochs))
    changed = {"kept_epochs": list(kept_epochs), "since": func.now()}
    await session.execute(row.on_conflict_do_update(index_elements=["upload_id"], set_=changed))


async def collect(sessions: Sessions, store: BlobStore, *, older_than_s: float, limit: int = 100) -> int:
    """Delete the objects of uploads whose time has come; how many uploads. Killed at any moment, the next goes on."""
    age = func.now() - timedelta(seconds=older_than_s)
    async with sessions() as session:
        wanted = select(GarbageTable).where(GarbageTable.since <= age).order_by(GarbageTable.since).limit(limit)
        rows = (await session.scalars(wanted)).all()
    for row in rows:
        kept = {part_key(row.sha256, row.upload_id, n, epoch) for n, epoch in enumerate(row.kept_epochs)}
        strays = [key for key in await store.keys(upload_prefix(row.sha256, row.upload_id)) if key not in kept]
        await store.delete(strays)
        async with sessions.begin() as session:
            same = (GarbageTable.upload_id == row.upload_id, GarbageTable.since == row.since)
            await session.execute(delete(GarbageTable).where(*same))
    return len(rows)
