"""Logs of operations: in pieces in Postgres while they run, whole in the object store after, the tail at hand."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.operations.tables import OperationLogTable, OperationTable

MAX_BYTES = 16 * 2**20
TAIL_BYTES = 64 * 2**10
CUT = "\n[keelway: the log is longer than 16 MiB; what follows was dropped]\n"


async def append(session: AsyncSession, row: OperationTable, text: str) -> None:
    """Add text to the log of an operation that is locked by this transaction. What is past the cap is dropped."""
    clean = text.replace("\0", "")  # Postgres text cannot hold NUL
    room = MAX_BYTES - row.log_bytes
    if room < 0 or not clean:  # less than none: the note stands there already
        return
    data = clean.encode()
    if len(data) > room:
        clean = data[:room].decode(errors="ignore") + CUT
        data = clean.encode()
    session.add(OperationLogTable(operation_id=row.id, offset=row.log_bytes, text=clean))
    row.log_bytes += len(data)
    await session.flush()


async def after(session: AsyncSession, operation_id: UUID, offset: int) -> list[tuple[int, str]]:
    """Pieces from `offset` on, each with the offset behind it; while they are still in Postgres."""
    wanted = select(OperationLogTable).where(
        OperationLogTable.operation_id == operation_id, OperationLogTable.offset >= offset
    )
    rows = await session.scalars(wanted.order_by(OperationLogTable.offset))
    return [(row.offset + len(row.text.encode()), row.text) for row in rows]


async def whole(sessions: Sessions, store: BlobStore, operation_id: UUID) -> str:
    """All that is known of an operation's log."""
    row, pieces = await _now(sessions, operation_id, 0)
    if row.log_tail is None:
        return "".join(text for _, text in pieces)
    try:
        return await store.get_text(_key(operation_id))
    except FileNotFoundError:
        return row.log_tail


async def _now(sessions: Sessions, operation_id: UUID, offset: int) -> tuple[OperationTable, list[tuple[int, str]]]:
    """The row and its pieces at one moment: between two it may be archived, and both would look empty."""
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        return await session.get_one(OperationTable, operation_id), await after(session, operation_id, offset)


async def news(
    sessions: Sessions, store: BlobStore, operation_id: UUID, offset: int
) -> tuple[list[tuple[int, str]], bool]:
    """What was written from `offset` on as (end, text), and True when nothing more will come."""
    row, pieces = await _now(sessions, operation_id, offset)
    if row.log_tail is None:
        return pieces, row.ended_at is not None
    rest = (await whole(sessions, store, operation_id)).encode()[offset:]
    return ([(offset + len(rest), rest.decode(errors="ignore"))] if rest else []), True


async def archive_ended(sessions: Sessions, store: BlobStore, *, limit: int = 20) -> int:
    """Move the logs of ended operations to the object store, keeping the tail. How many were moved."""
    async with sessions() as session:
        wanted = select(OperationTable.id).where(
            OperationTable.ended_at.is_not(None), OperationTable.log_tail.is_(None), OperationTable.log_bytes > 0
        )
        ids = list(await session.scalars(wanted.limit(limit)))
    for operation_id in ids:
        async with sessions() as session:
            text = "".join(piece for _, piece in await after(session, operation_id, 0))
        await store.put_text(_key(operation_id), text)
        async with sessions.begin() as session:
            tail = text.encode()[-TAIL_BYTES:].decode(errors="ignore")
            await session.execute(update(OperationTable).where(OperationTable.id == operation_id).values(log_tail=tail))
            await session.execute(delete(OperationLogTable).where(OperationLogTable.operation_id == operation_id))
    return len(ids)


def _key(operation_id: UUID) -> str:
    return f"logs/operations/{operation_id}"
