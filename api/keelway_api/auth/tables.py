"""Tokens and what they may do where."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class TokenTable(Base):
    """A token: found by its id, known by the sha256 of its secret."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    name: Mapped[str]
    created_at: Mapped[Created]
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class GrantTable(Base):
    """A role in one workspace, or everywhere when there is none."""

    __tablename__ = "grants"
    __table_args__ = (UniqueConstraint("token_id", "workspace_id", "role", postgresql_nulls_not_distinct=True),)

    id: Mapped[Id]
    token_id: Mapped[str] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), index=True)
    workspace_id: Mapped[UUID | None] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(String(16))
