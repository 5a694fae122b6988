"""Who changed what: recorded with the change, or not at all."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from structlog.contextvars import get_contextvars

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
