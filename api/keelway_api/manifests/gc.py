"""Which blobs nothing refers to any more: condemned first, deleted after a grace period if that is still so.

Whoever begins to refer to a blob holds a lock on its row until that is committed, and a blob's row is deleted only
under a lock that excludes theirs, after a last look: a blob in use is never deleted, and no writer has to pause.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.blobs import garbage
from keelway_api.blobs.tables import BlobTable
from keelway_api.db import Sessions
from keelway_api.manifests.tables import ManifestFileTable

BATCH = 500


def _is_unreferenced() -> ColumnElement[bool]:
    return ~exists().where(ManifestFileTable.sha256 == BlobTable.sha256)


async def unreferenced(session: AsyncSession, *, condemned_for_s: float | None = None) -> tuple[int, int]:
    """Number and bytes of the blobs that nothing refers to: all, or those condemned for so long."""
    wanted = select(func.count(), func.coalesce(func.sum(BlobTable.size_bytes), 0)).where(_is_unreferenced())
    if condemned_for_s is not None:
        wanted = wanted.where(BlobTable.condemned_at < func.now() - timedelta(seconds=condemned_for_s))
    count, size_bytes = (await session.execute(wanted)).one()
    return count, int(size_bytes)


async def condemn(session: AsyncSession) -> None:
    """Note since when blobs have been without a reference, and forget it of those that have one again."""
    condemned = BlobTable.condemned_at.is_not(None)
    await session.execute(update(BlobTable).where(condemned, ~_is_unreferenced()).values(condemned_at=None))
    await session.execute(update(BlobTable).where(~condemned, _is_unreferenced()).values(condemned_at=func.now()))


async def delete_condemned(sessions: Sessions, *, grace_s: float) -> tuple[int, int]:
    """Delete what has been condemned for so long, a batch at a time; number and bytes of this batch."""
    age = func.now() - timedelta(seconds=grace_s)
    async with sessions.begin() as session:
        wanted = select(BlobTable.sha256).where(BlobTable.condemned_at <= age).order_by(BlobTable.sha256).limit(BATCH)
        locked = list(await session.scalars(wanted.with_for_update(skip_locked=True)))
        # A statement of its own: it sees what was committed while the locks were waited for.
        gone = delete(BlobTable).where(BlobTable.sha256.in_(locked), _is_unreferenced())
        returned = gone.returning(BlobTable.sha256, BlobTable.size_bytes, BlobTable.upload_id)
        rows = (await session.execute(returned)).all()
        for row in rows:
            await garbage.add(session, row.sha256, row.upload_id)
    return len(rows), sum(row.size_bytes for row in rows)
