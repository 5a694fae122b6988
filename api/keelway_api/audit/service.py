"""Who changed what: recorded with the change, or not at all."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, bindparam, insert, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.contextvars import get_contextvars

from keelway_api.audit.tables import AuditTable
from keelway_api.auth.principal import Principal


def values(principal: Principal, action: str, *, workspace_id: UUID | None = None) -> dict[str, Any]:
    """The parameters of a statement that adds an entry without details."""
    return {
        "actor": principal.name,
        "token_id": principal.token_id,
        "action": action,
        "workspace_id": workspace_id,
        "request_id": str(get_contextvars().get("request_id", "")),
    }


def added(subject: ColumnElement[str], rows: CTE) -> CTE:
    """An entry for each of these rows, about `subject`, as a part of a statement; `values` are its parameters."""
    table = AuditTable.__table__.c
    names = ("workspace_id", "actor", "token_id", "action", "request_id")
    given = {name: bindparam(name, type_=table[name].type) for name in names}
    columns = {**given, "subject": subject, "detail": literal_column("'{}'::jsonb")}
    wanted = select(*columns.values()).select_from(rows)
    return insert(AuditTable).from_select(list(columns), wanted, include_defaults=False).cte("audited")


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
