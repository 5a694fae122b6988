"""Events: what happened, written in the transaction in which it happened."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created


class EventTable(Base):
    """One event; its id orders them and never changes."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_workspace_id_id", "workspace_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[Created]
    workspace_id: Mapped[UUID]
    name: Mapped[str]
    subject: Mapped[str]
    payload: Mapped[dict[str, Any]]


async def emit(session: AsyncSession, event: str, *, workspace_id: UUID, subject: str, **payload: Any) -> None:
    """Add one event to this transaction."""
    session.add(EventTable(workspace_id=workspace_id, name=event, subject=subject, payload=payload))
