"""The audit log: one row for each accepted change."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created


class AuditTable(Base):
    """Written in the transaction of the change itself."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_workspace_id_id", "workspace_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[Created]
    workspace_id: Mapped[UUID | None]
    actor: Mapped[str]
    token_id: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    request_id: Mapped[str]
    detail: Mapped[dict[str, Any]]
