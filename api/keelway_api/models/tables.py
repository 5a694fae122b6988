"""Models and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.manifests.tables import ManifestTable
from keelway_api.tables import Base, Created, Id


class ModelTable(Base):
    """A name, and the counter of its versions, which only ever grows: the row outlives its model.

    `latest_version`: the highest ready one.
    """

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("workspace_id", "name"),
        Index("ix_models_created", "workspace_id", "created_at", "id"),
        Index("ix_models_latest", "workspace_id", text("coalesce(latest_version, 0)"), "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(255))
    last_version: Mapped[int]
    latest_version: Mapped[int | None]
    is_deleted: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[Created]
    created_by: Mapped[str]


class ModelVersionTable(Base):
    """One version: its manifest, and what is said about it.

    Workspace and name stand here as well, so that every list and filter is read from one index.
    """

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        Index("ix_model_versions_named", "workspace_id", "name", "version", unique=True),
        Index("ix_model_versions_created", "workspace_id", "created_at", "id"),
        Index("ix_model_versions_name", "workspace_id", "name", "id"),
        Index("ix_model_versions_number", "workspace_id", "version", "id"),
        Index("ix_model_versions_framework", "workspace_id", "framework", "created_at"),
        Index("ix_model_versions_run", "workspace_id", "run", "created_at"),
        Index("ix_model_versions_safety", "workspace_id", "safety_label", "created_at", "id"),
        Index("ix_model_versions_tags", "tags", postgresql_using="gin"),
        Index("ix_model_versions_properties", "properties", postgresql_using="gin"),
        Index("ix_model_versions_datasets", "datasets", postgresql_using="gin"),
    )

    id: Mapped[Id]
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(255))
    version: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), index=True)
    manifest_id: Mapped[UUID] = mapped_column(ForeignKey("manifests.id"), index=True)
    description: Mapped[str]
    tags: Mapped[dict[str, Any]]
    properties: Mapped[dict[str, Any]]
    framework: Mapped[str | None]
    framework_version: Mapped[str | None]
    resource_requirements: Mapped[dict[str, Any] | None]
    run: Mapped[str | None] = mapped_column(String(511))
    datasets: Mapped[list[Any]] = mapped_column(default=list)
    sample_input: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    sample_output: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    requires_approval: Mapped[bool] = mapped_column(default=False)
    approved_at: Mapped[datetime | None]
    approved_by: Mapped[str | None]
    signature_key: Mapped[str | None]
    signature_added_at: Mapped[datetime | None]
    signature_added_by: Mapped[str | None]
    safety: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    safety_label: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[Created]
    created_by: Mapped[str]
    updated_at: Mapped[Created]
    row_version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": row_version}  # noqa: RUF012


class ModelSignatureTable(Base):
    """The signature of a version: a bundle as it was sent."""

    __tablename__ = "model_signatures"

    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True)
    bundle: Mapped[str]


class ModelUseTable(Base):
    """Who refers to a version, e.g. `services/ridge-svc`: such a version cannot be deleted."""

    __tablename__ = "model_uses"

    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    used_by: Mapped[str] = mapped_column(primary_key=True, index=True)


class AliasTable(Base):
    """A name for one version of a model. `change_id`: the change that made it so."""

    __tablename__ = "model_aliases"

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(String(255), primary_key=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"), index=True)
    since: Mapped[Created]
    by: Mapped[str]
    change_id: Mapped[int] = mapped_column(BigInteger)


class AliasHistoryTable(Base):
    """Every change of every alias; versions by their numbers, which outlive them."""

    __tablename__ = "model_alias_history"
    __table_args__ = (Index("ix_model_alias_history_alias", "model_id", "alias", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    alias: Mapped[str] = mapped_column(String(255))
    from_version: Mapped[int | None]
    to_version: Mapped[int | None]
    at: Mapped[Created]
    by: Mapped[str]


# A version with its model and the list of its files, as most queries answer them.
VersionRow = tuple[ModelVersionTable, ModelTable, ManifestTable]
