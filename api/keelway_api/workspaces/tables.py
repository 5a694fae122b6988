"""Workspaces."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class WorkspaceTable(Base):
    """The tenant boundary; owns everything that names it."""

    __tablename__ = "workspaces"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str]
    created_at: Mapped[Created]
    created_by: Mapped[str]
