"""What replicas wrote, as their nodes sent it: the newest MiB of each."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.services import ReplicaLog
from keelway_api.bell import ring
from keelway_api.services.observation import replica_owners
from keelway_api.services.tables import ReplicaLogTable

KEEP_BYTES = 2**20
Offsets = dict[str, int]


async def append(session: AsyncSession, node: str, logs: Sequence[ReplicaLog]) -> None:
    """Keep new text of this node's replicas; what was sent before, or belongs to none of its replicas, is ignored."""
    owners = await replica_owners(session, node, [log.replica for log in logs])
    for log in logs:
        owner = owners.get(log.replica)
        if owner is None or not log.text:
            continue
        data = log.text.encode()
        start, end = max(log.offset, await _end(session, log.replica)), log.offset + len(data)
        if start >= end:
            continue
        text = data[start - log.offset :].decode(errors="replace").replace("\0", "")
        await session.execute(
            insert(ReplicaLogTable)
            .values(service_id=owner, replica=log.replica, offset=start, text=text, size_bytes=end - start)
            .on_conflict_do_nothing()
        )
        await _forget_old(session, log.replica, end)
        await ring(session, f"logs:{owner}")


async def _end(session: AsyncSession, replica: str) -> int:
    """Up to where its log is known: a node whose last message was taken but not answered sends again, by now more."""
    wanted = select(func.max(ReplicaLogTable.offset + ReplicaLogTable.size_bytes))
    return await session.scalar(wanted.where(ReplicaLogTable.replica == replica)) or 0


async def _forget_old(session: AsyncSession, replica: str, end: int) -> None:
    await session.execute(
        delete(ReplicaLogTable).where(
            ReplicaLogTable.replica == replica, ReplicaLogTable.offset + ReplicaLogTable.size_bytes < end - KEEP_BYTES
        )
    )


async def tail(session: AsyncSession, service_id: UUID, *, replica: str | None, lines: int) -> str:
    """The last lines of each replica; with more than one, under a line that names it."""
    parts: list[str] = []
    names = [replica] if replica else await _replicas(session, service_id)
    for name in names:
        wanted = select(ReplicaLogTable.text).where(
            ReplicaLogTable.service_id == service_id, ReplicaLogTable.replica == name
        )
        text = "".join(await session.scalars(wanted.order_by(ReplicaLogTable.offset)))
        kept = "".join(text.splitlines(keepends=True)[-lines:] if lines else [])
        parts.append(kept if len(names) == 1 else f"==> {name} <==\n{kept}")
    return "\n".join(parts)


async def ends(session: AsyncSession, service_id: UUID) -> Offsets:
    """Where the last piece of each replica's log begins."""
    wanted = select(ReplicaLogTable.replica, func.max(ReplicaLogTable.offset))
    rows = await session.execute(
        wanted.where(ReplicaLogTable.service_id == service_id).group_by(ReplicaLogTable.replica)
    )
    return {name: int(last) for name, last in rows.tuples()}


async def after(
    session: AsyncSession, service_id: UUID, offsets: Offsets, *, replica: str | None
) -> list[tuple[str, int, str]]:
    """Pieces behind those at `offsets` as (replica, offset, text), in the order they came.

    By where they begin and not by where the last one ended: bytes that are no text took more room when they were sent.
    """
    wanted = select(ReplicaLogTable).where(ReplicaLogTable.service_id == service_id)
    if replica:
        wanted = wanted.where(ReplicaLogTable.replica == replica)
    rows = await session.scalars(wanted.order_by(ReplicaLogTable.at, ReplicaLogTable.offset))
    return [(row.replica, row.offset, row.text) for row in rows if row.offset > offsets.get(row.replica, -1)]


async def _replicas(session: AsyncSession, service_id: UUID) -> list[str]:
    wanted = select(ReplicaLogTable.replica).where(ReplicaLogTable.service_id == service_id).distinct()
    return sorted(await session.scalars(wanted))


def print_offsets(offsets: Offsets) -> str:
    """Where a follower is, as an event id."""
    return ",".join(f"{name}:{end}" for name, end in sorted(offsets.items()))


def parse_offsets(event_id: str) -> Offsets:
    """What `print_offsets` made; parts that it did not make are ignored."""
    pairs = (part.rpartition(":") for part in event_id.split(","))
    return {name: int(end) for name, _, end in pairs if name and end.isascii() and end.isdigit()}
