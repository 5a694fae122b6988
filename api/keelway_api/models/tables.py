"""Models and their versions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class ModelTable(Base):
    """A name, and the counter of its versions, which only ever grows."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(255))
    last_version: Mapped[int]
    created_at: Mapped[Created]
    created_by: Mapped[str]


class ModelVersionTable(Base):
    """One version: its manifest, and what is said about it."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "version"),)

    id: Mapped[Id]
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), index=True)
    manifest_id: Mapped[UUID] = mapped_column(ForeignKey("manifests.id"))
    description: Mapped[str]
    tags: Mapped[dict[str, Any]]
    properties: Mapped[dict[str, Any]]
    framework: Mapped[str | None]
    framework_version: Mapped[str | None]
    resource_requirements: Mapped[dict[str, Any] | None]
    created_at: Mapped[Created]
    created_by: Mapped[str]
    row_version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": row_version}  # noqa: RUF012


class ModelUseTable(Base):
    """Who refers to a version, e.g. `services/ridge-svc`: such a version cannot be deleted."""

    __tablename__ = "model_uses"

    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    used_by: Mapped[str] = mapped_column(primary_key=True)
