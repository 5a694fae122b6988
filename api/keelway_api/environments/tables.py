"""Environments and their resolved versions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class EnvironmentTable(Base):
    """A name and the counter of its versions."""

    __tablename__ = "environments"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(255))
    last_version: Mapped[int]
    created_at: Mapped[Created]


class EnvironmentVersionTable(Base):
    """What was declared, and the lock it was resolved to. Never changes."""

    __tablename__ = "environment_versions"
    __table_args__ = (
        UniqueConstraint("environment_id", "version"),
        UniqueConstraint("environment_id", "content_digest"),
    )

    id: Mapped[Id]
    environment_id: Mapped[UUID] = mapped_column(ForeignKey("environments.id"))
    version: Mapped[int]
    content_digest: Mapped[str] = mapped_column(String(64))
    definition: Mapped[dict[str, Any]]
    python_version: Mapped[str] = mapped_column(String(16))
    requirements: Mapped[list[Any]]
    lock: Mapped[str] = mapped_column(Text)
    lock_digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[Created]
    created_by: Mapped[str]
