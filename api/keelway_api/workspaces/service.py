"""Workspaces: found, made, listed."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Policies, RefuseFindings, Workspace, WorkspaceCreate, WorkspaceUpdate
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.auth.principal import NOBODY, Principal
from keelway_api.errors import AlreadyExists, NotFound
from keelway_api.workspaces.tables import WorkspaceTable

DEFAULT = "default"


async def find(session: AsyncSession, name: str) -> WorkspaceTable:
    """The workspace of that name. Raises NotFound."""
    row = await session.scalar(select(WorkspaceTable).where(WorkspaceTable.name == name))
    if row is None:
        raise NotFound("workspace", name)
    return row


async def names_of(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Names by id."""
    found = await session.execute(select(WorkspaceTable.id, WorkspaceTable.name).where(WorkspaceTable.id.in_(ids)))
    return {row.id: row.name for row in found}


async def own_scope(session: AsyncSession, workspace_id: UUID) -> Scope:
    """A workspace where the system itself is at work."""
    return Scope(workspace_id, (await names_of(session, [workspace_id]))[workspace_id], NOBODY)


async def ensure_default(session: AsyncSession) -> None:
    """The workspace `default` exists."""
    await session.execute(
        insert(WorkspaceTable).values(name=DEFAULT, description="", created_by="keelway").on_conflict_do_nothing()
    )


async def create(session: AsyncSession, principal: Principal, body: WorkspaceCreate) -> Workspace:
    """A new workspace. Raises AlreadyExists."""
    row = await session.scalar(
        insert(WorkspaceTable)
        .values(name=body.name, description=body.description, created_by=principal.name)
        .on_conflict_do_nothing()
        .returning(WorkspaceTable)
    )
    if row is None:
        raise AlreadyExists("workspace", body.name)
    await audit.record(session, principal, "workspace.create", f"workspaces/{row.name}", workspace_id=row.id)
    return contract(row)


async def change(session: AsyncSession, principal: Principal, name: str, body: WorkspaceUpdate) -> Workspace:
    """Say something else of a workspace, or have other policies. Raises NotFound."""
    row = await find(session, name)
    wanted = {
        "description": body.description,
        "refuse_findings": body.policies.refuse_findings if body.policies else None,
    }
    changed = {field: value for field, value in wanted.items() if value not in (None, getattr(row, field))}
    for field, value in changed.items():
        setattr(row, field, value)
    if changed:
        await session.flush()
        subject = f"workspaces/{row.name}"
        await audit.record(session, principal, "workspace.update", subject, workspace_id=row.id, **changed)
    return contract(row)


async def visible(session: AsyncSession, principal: Principal, *, after: str | None, limit: int) -> list[Workspace]:
    """The workspaces this principal may see, by name."""
    wanted = select(WorkspaceTable).order_by(WorkspaceTable.name).limit(limit)
    if principal.visible_workspaces is not None:
        wanted = wanted.where(WorkspaceTable.id.in_(principal.visible_workspaces))
    if after is not None:
        wanted = wanted.where(WorkspaceTable.name > after)
    return [contract(row) for row in await session.scalars(wanted)]


def contract(row: WorkspaceTable) -> Workspace:
    """The row as it goes over the wire."""
    return Workspace(
        name=row.name,
        description=row.description,
        policies=Policies(refuse_findings=RefuseFindings(row.refuse_findings)),
        created_at=row.created_at,
        created_by=row.created_by,
    )
