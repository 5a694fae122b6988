"""SELECTs of models; each starts from one workspace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.models import VersionState
from keelway_api import versions
from keelway_api.errors import NotFound
from keelway_api.manifests.tables import ManifestTable
from keelway_api.models.tables import ModelTable, ModelVersionTable

VersionRow = tuple[ModelVersionTable, ModelTable, ManifestTable]


def versions_in(workspace_id: UUID) -> Select[ModelVersionTable, ModelTable, ManifestTable]:
    """All versions of all models of a workspace, with their model and manifest."""
    return (
        select(ModelVersionTable, ModelTable, ManifestTable)
        .join(ModelTable, ModelVersionTable.model_id == ModelTable.id)
        .join(ManifestTable, ModelVersionTable.manifest_id == ManifestTable.id)
        .where(ModelTable.workspace_id == workspace_id)
    )


async def version(session: AsyncSession, workspace_id: UUID, name: str, number: str) -> VersionRow:
    """Version `number` of a model, where `latest` is the highest ready one. Raises NotFound."""
    wanted = versions_in(workspace_id).where(ModelTable.name == name)
    is_ready = ModelVersionTable.state == VersionState.READY
    row = await versions.pick(session, wanted, ModelVersionTable.version, number, latest_among=is_ready)
    if row is None:
        raise NotFound("model version", f"{name}:{number}")
    return row


async def newest_versions(
    session: AsyncSession, workspace_id: UUID, name: str, *, before: int | None, limit: int
) -> Sequence[VersionRow]:
    """Versions of one model, newest first, below `before`."""
    wanted = versions_in(workspace_id).where(ModelTable.name == name)
    if before is not None:
        wanted = wanted.where(ModelVersionTable.version < before)
    rows = await session.execute(wanted.order_by(ModelVersionTable.version.desc()).limit(limit))
    return rows.tuples().all()


async def model(session: AsyncSession, workspace_id: UUID, name: str) -> ModelTable:
    """The model of that name. Raises NotFound."""
    wanted = select(ModelTable).where(ModelTable.workspace_id == workspace_id, ModelTable.name == name)
    row = await session.scalar(wanted)
    if row is None:
        raise NotFound("model", name)
    return row


async def models(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    name: str | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[ModelTable]:
    """Models, newest first, before (created_at, id); only the one called `name` when that is given."""
    wanted = select(ModelTable).where(ModelTable.workspace_id == workspace_id)
    if name is not None:
        wanted = wanted.where(ModelTable.name == name)
    if before is not None:
        wanted = wanted.where(tuple_(ModelTable.created_at, ModelTable.id) < tuple_(*before))
    ordered = wanted.order_by(ModelTable.created_at.desc(), ModelTable.id.desc())
    return (await session.scalars(ordered.limit(limit))).all()


async def latest_of(session: AsyncSession, workspace_id: UUID, model_ids: Sequence[UUID]) -> dict[UUID, VersionRow]:
    """The highest ready version of each of these models."""
    highest = (
        select(ModelVersionTable.model_id, func.max(ModelVersionTable.version).label("version"))
        .where(ModelVersionTable.model_id.in_(model_ids), ModelVersionTable.state == VersionState.READY)
        .group_by(ModelVersionTable.model_id)
        .subquery()
    )
    wanted = versions_in(workspace_id).join(
        highest,
        (highest.c.model_id == ModelVersionTable.model_id) & (highest.c.version == ModelVersionTable.version),
    )
    return {row[1].id: row for row in (await session.execute(wanted)).tuples()}
