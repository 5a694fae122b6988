"""SELECTs of services and what belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.errors import NotFound
from keelway_api.services.tables import ReplicaTable, RevisionTable, ServiceTable


async def service_named(session: AsyncSession, workspace_id: UUID, name: str) -> ServiceTable:
    """The service of that name. Raises NotFound."""
    wanted = select(ServiceTable).where(ServiceTable.workspace_id == workspace_id, ServiceTable.name == name)
    row = await session.scalar(wanted)
    if row is None:
        raise NotFound("service", name)
    return row


async def service_locked(session: AsyncSession, service_id: UUID) -> ServiceTable | None:
    """The service, locked before anything of it is: that order keeps reports and observations from deadlock."""
    wanted = select(ServiceTable).where(ServiceTable.id == service_id).with_for_update()
    return await session.scalar(wanted.execution_options(populate_existing=True))


async def revisions_of(session: AsyncSession, service_id: UUID) -> Sequence[RevisionTable]:
    """Revisions, newest first."""
    wanted = select(RevisionTable).where(RevisionTable.service_id == service_id)
    return (await session.scalars(wanted.order_by(RevisionTable.number.desc()))).all()


async def replicas_of(session: AsyncSession, service_id: UUID) -> Sequence[ReplicaTable]:
    """Replicas by name, also those on their way out."""
    wanted = select(ReplicaTable).where(ReplicaTable.service_id == service_id)
    return (await session.scalars(wanted.order_by(ReplicaTable.name))).all()


async def users_of_image(session: AsyncSession, workspace_id: UUID, identity: str) -> Sequence[str]:
    """The names of services with a revision that runs in containers of this image."""
    wanted = (
        select(ServiceTable.name)
        .join(RevisionTable, RevisionTable.service_id == ServiceTable.id)
        .where(ServiceTable.workspace_id == workspace_id)
        .where(RevisionTable.image_id.is_not(None), RevisionTable.image == identity)
    )
    return (await session.scalars(wanted.distinct().order_by(ServiceTable.name))).all()


async def wanted_replicas(session: AsyncSession, revision_id: UUID) -> Sequence[ReplicaTable]:
    """Replicas of a revision that should run, by name."""
    wanted = select(ReplicaTable).where(ReplicaTable.revision_id == revision_id, ReplicaTable.is_wanted)
    return (await session.scalars(wanted.order_by(ReplicaTable.name))).all()
