"""Operations and their logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class OperationTable(Base):
    """Long-running work: the row is the truth, the message that announces it is not."""

    __tablename__ = "operations"
    __table_args__ = (
        Index("ix_operations_open", "state", "lease_until", postgresql_where="ended_at IS NULL"),
        Index("ix_operations_workspace_id_id", "workspace_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str]
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    epoch: Mapped[int] = mapped_column(default=0)
    last_seq: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    owner: Mapped[str | None]
    node: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    rings: Mapped[int] = mapped_column(default=1)
    deadline_at: Mapped[datetime]
    steps: Mapped[list[Any]] = mapped_column(default=list)
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    log_tail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Created]
    created_by: Mapped[str]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class OperationLogTable(Base):
    """What an operation wrote, in pieces, while it runs; moved to the object store when it ended."""

    __tablename__ = "operation_logs"

    operation_id: Mapped[UUID] = mapped_column(ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    text: Mapped[str] = mapped_column(Text)
