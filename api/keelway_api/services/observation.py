"""Nodes and services: what should run on a node, and what its supervisor sees running."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.services import NodeDesired, NodeObserved, ObservedReplica
from keelway_api.bell import ring
from keelway_api.db import Sessions, forgo_sync
from keelway_api.nodes import service as nodes
from keelway_api.nodes.tables import NodeTable
from keelway_api.services import deployment, queries, service
from keelway_api.services.tables import ReplicaTable, RevisionTable, ServiceTable
from keelway_api.settings import ApiSettings
from keelway_api.storable import storable


async def desired(session: AsyncSession, node: str) -> NodeDesired:
    """Everything that should run on a node. Raises NotFound."""
    row = await nodes.find(session, node)
    wanted = (
        select(ReplicaTable, RevisionTable)
        .join(RevisionTable, ReplicaTable.revision_id == RevisionTable.id)
        .where(ReplicaTable.node == node, ReplicaTable.is_wanted)
        .order_by(ReplicaTable.name)
    )
    found = (await session.execute(wanted)).tuples().all()
    specs = [
        await deployment.replica_spec(session, revision, name=replica.name, generation=replica.generation)
        for replica, revision in found
    ]
    return NodeDesired(generation=row.generation, replicas=specs)


async def observed(sessions: Sessions, node: str, body: NodeObserved, settings: ApiSettings) -> None:
    """Take over what a node sees. What it does not list any more and nobody wants is gone. Raises NotFound."""
    # A transaction of its own: deployments lock a service and then its nodes, so nobody may wait the other way round.
    async with sessions.begin() as session:
        await forgo_sync(session)
        await nodes.heard(session, node, body.generation)
    async with sessions.begin() as session:
        await _take_over_all(session, node, body, settings)


async def _take_over_all(session: AsyncSession, node: str, body: NodeObserved, settings: ApiSettings) -> None:
    rows = list(await session.scalars(select(ReplicaTable).where(ReplicaTable.node == node)))
    seen = {replica.name: replica for replica in body.replicas}
    touched = {row.service_id for row in rows if _differs(row, seen.get(row.name), body.generation)}
    for service_id in sorted(touched):  # services first, in one order: see queries.service_locked
        owner = await queries.service_locked(session, service_id)
        if owner is not None:
            await _take_over(session, owner, node, seen, body.generation)
            if not await service.remove_if_gone(session, owner):
                await service.refresh(session, owner, settings)


def _differs(row: ReplicaTable, seen: ObservedReplica | None, generation: int) -> bool:
    if seen is None:
        return not row.is_wanted and generation >= row.generation
    return any(getattr(row, name) != value for name, value in _values(seen).items())


def _values(seen: ObservedReplica) -> dict[str, object]:
    return {
        "state": seen.state.value,
        "reason": storable(seen.reason),
        "url": storable(seen.url),
        "pid": seen.pid,
        "restarts": seen.restarts,
        "exit_code": seen.exit_code,
        "log_tail": storable(seen.log_tail),
        "started_at": seen.started_at,
    }


async def _take_over(
    session: AsyncSession, owner: ServiceTable, node: str, seen: dict[str, ObservedReplica], generation: int
) -> None:
    wanted = select(ReplicaTable).where(ReplicaTable.service_id == owner.id, ReplicaTable.node == node)
    for row in await session.scalars(wanted.execution_options(populate_existing=True)):
        if found := seen.get(row.name):
            for name, value in _values(found).items():
                setattr(row, name, value)
        elif not row.is_wanted and generation >= row.generation:
            await session.delete(row)
    await session.flush()
    await ring(session, f"replicas:{owner.id}")
    await ring(session, "gateway")


async def refresh_all(session: AsyncSession, settings: ApiSettings) -> None:
    """Judge services whose node fell silent or came back: nobody else will tell."""
    silent = settings.node_away_s < nodes.SILENT_S
    wanted = (
        select(ServiceTable.id)
        .join(ReplicaTable, ReplicaTable.service_id == ServiceTable.id)
        .join(NodeTable, NodeTable.name == ReplicaTable.node)
        .where(((ServiceTable.state == "healthy") & silent) | ((ServiceTable.state == "unhealthy") & ~silent))
        .distinct()
        .order_by(ServiceTable.id)
    )
    for service_id in (await session.scalars(wanted)).all():
        if owner := await queries.service_locked(session, service_id):
            await service.refresh(session, owner, settings)


async def replica_owners(session: AsyncSession, node: str, names: Sequence[str]) -> dict[str, UUID]:
    """Service ids by replica name, of those that belong to this node."""
    wanted = select(ReplicaTable.name, ReplicaTable.service_id).where(
        ReplicaTable.node == node, ReplicaTable.name.in_(names)
    )
    return {row.name: row.service_id for row in await session.execute(wanted)}
