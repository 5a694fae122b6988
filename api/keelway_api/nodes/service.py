"""Nodes: who they are, and when they were last heard of."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.services import Node, NodeRegister
from keelway_api.bell import ring
from keelway_api.errors import NotFound
from keelway_api.nodes.tables import NodeTable

SILENT_S = func.extract("epoch", func.now() - NodeTable.heartbeat_at)


async def register(session: AsyncSession, name: str, body: NodeRegister, away_s: float) -> Node:
    """A node starts (again) and says what it has."""
    values = {**body.model_dump(), "heartbeat_at": func.now()}
    row = await session.scalar(
        insert(NodeTable)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
        .returning(NodeTable),
        execution_options={"populate_existing": True},
    )
    assert row is not None
    return contract(row, 0.0, away_s)


async def find(session: AsyncSession, name: str, *, lock: bool = False) -> NodeTable:
    """The row of a node. Raises NotFound: it has to register again."""
    row = await session.get(NodeTable, name, with_for_update=lock or None)
    if row is None:
        raise NotFound("node", name)
    return row


async def all_nodes(session: AsyncSession, away_s: float) -> list[Node]:
    """All nodes by name."""
    rows = await session.execute(select(NodeTable, SILENT_S).order_by(NodeTable.name))
    return [contract(row, float(silent_s), away_s) for row, silent_s in rows.tuples()]


async def pythons(session: AsyncSession, away_s: float) -> list[str]:
    """Python versions of the nodes that are ready, each node's preferred first."""
    found: dict[str, None] = {}
    for node in await all_nodes(session, away_s):
        if node.state == "ready":
            found.update(dict.fromkeys(node.pythons))
    return list(found)


async def raise_generation(session: AsyncSession, name: str) -> int:
    """What should run on the node has changed: it is woken, and the new generation is answered."""
    generation = await session.scalar(
        update(NodeTable)
        .where(NodeTable.name == name)
        .values(generation=NodeTable.generation + 1)
        .returning(NodeTable.generation)
    )
    await ring(session, f"node:{name}")
    return generation or 0


async def heard(session: AsyncSession, name: str, generation: int) -> None:
    """The node reported; it has acted on `generation`. Raises NotFound."""
    found = await session.scalar(
        update(NodeTable)
        .where(NodeTable.name == name)
        .values(heartbeat_at=func.now(), acted_generation=func.greatest(NodeTable.acted_generation, generation))
        .returning(NodeTable.name)
    )
    if found is None:
        raise NotFound("node", name)


async def silent_s(session: AsyncSession, name: str) -> float:
    """For how many seconds nothing was heard of the node, by Postgres' clock."""
    found = await session.scalar(select(SILENT_S).where(NodeTable.name == name))
    return float("inf") if found is None else float(found)


def contract(row: NodeTable, silent_s: float, away_s: float) -> Node:
    """A node as it goes over the wire."""
    return Node(
        name=row.name,
        state="away" if silent_s > away_s else "ready",
        pythons=row.pythons,
        targets=row.targets,
        capacity=row.capacity,
        labels=row.labels,
        keelway_version=row.keelway_version,
        heartbeat_at=row.heartbeat_at,
    )
