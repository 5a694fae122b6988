"""Who changed what: recorded with the change, or not at all."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.contextvars import get_contextvars

from keelway.contracts.access import AuditEntry
from keelway_api.audit.tables import AuditTable
from keelway_api.auth.principal import Principal


async def record(
    session: AsyncSession,
    principal: Principal,
    action: str,
    subject: str,
    *,
    workspace_id: UUID | None = None,
    **detail: Any,
) -> None:
    """Add one entry to this transaction."""
    session.add(
        AuditTable(
            workspace_id=workspace_id,
            actor=principal.name,
            token_id=principal.token_id,
            action=action,
            subject=subject,
            request_id=str(get_contextvars().get("request_id", "")),
            detail=detail,
        )
    )


async def entries(
    session: AsyncSession, workspace_id: UUID, workspace: str, *, before: int | None, limit: int
) -> list[AuditEntry]:
    """The newest entries of a workspace before the one with id `before`."""
    wanted = select(AuditTable).where(AuditTable.workspace_id == workspace_id)
    if before is not None:
        wanted = wanted.where(AuditTable.id < before)
    rows = await session.scalars(wanted.order_by(AuditTable.id.desc()).limit(limit))
    return [
        AuditEntry(
            id=row.id,
            at=row.at,
            workspace=workspace,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            request_id=row.request_id,
            detail=row.detail,
        )
        for row in rows
    ]
