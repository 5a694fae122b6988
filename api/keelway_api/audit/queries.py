"""SELECTs of the audit log."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import AuditEntry
from keelway_api.audit.tables import AuditTable
from keelway_api.workspaces import service as workspaces


async def entries(
    session: AsyncSession, *, workspace_id: UUID | None, before: int | None, limit: int
) -> list[AuditEntry]:
    """The newest entries, of one workspace or of everything, before the one with id `before`."""
    wanted = select(AuditTable).order_by(AuditTable.id.desc()).limit(limit)
    if workspace_id is not None:
        wanted = wanted.where(AuditTable.workspace_id == workspace_id)
    if before is not None:
        wanted = wanted.where(AuditTable.id < before)
    rows = (await session.scalars(wanted)).all()
    names = await workspaces.names_of(session, [row.workspace_id for row in rows if row.workspace_id])
    return [_contract(row, names.get(row.workspace_id) if row.workspace_id else None) for row in rows]


def _contract(row: AuditTable, workspace: str | None) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        workspace=workspace,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        request_id=row.request_id,
        detail=row.detail,
    )
