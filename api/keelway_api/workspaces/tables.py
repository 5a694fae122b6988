"""Workspaces."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class WorkspaceTable(Base):
    """The tenant boundary; owns everything that names it."""

    __tablename__ = "workspaces"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str]
    refuse_findings: Mapped[str] = mapped_column(String(16), server_default="none")
    created_at: Mapped[Created]
    created_by: Mapped[str]
