"""Environments and their resolved versions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class EnvironmentTable(Base):
    """A name and the counter of its versions. Curated ones are of no workspace and there for all."""

    __tablename__ = "environments"
    __table_args__ = (
        UniqueConstraint("workspace_id", "name"),
        Index("ix_environments_curated", "name", unique=True, postgresql_where="workspace_id IS NULL"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID | None] = mapped_column(ForeignKey("workspaces.id"))
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
    conda_lock: Mapped[str | None] = mapped_column(Text)
    lock_digest: Mapped[str] = mapped_column(String(64))
    wheels_id: Mapped[UUID | None] = mapped_column(ForeignKey("snapshots.id"))
    build_context_id: Mapped[UUID | None] = mapped_column(ForeignKey("snapshots.id"))
    created_at: Mapped[Created]
    created_by: Mapped[str]


class RegistryCredentialsTable(Base):
    """What the registry of a version's image wants to know: apart, so that nothing shows it by showing the version."""

    __tablename__ = "environment_registries"

    version_id: Mapped[UUID] = mapped_column(
        ForeignKey("environment_versions.id", ondelete="CASCADE"), primary_key=True
    )
    address: Mapped[str]
    username: Mapped[str]
    password: Mapped[str]
