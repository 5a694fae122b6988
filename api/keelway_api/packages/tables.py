"""Packages: models with all they need, for use without Keelway."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id

NOT_FAILED = text("state <> 'failed'")


class PackageTable(Base):
    """A package as it was asked for, and, once its operation has made it, where its files are."""

    __tablename__ = "packages"
    __table_args__ = (
        Index("ix_packages_workspace_id_id", "workspace_id", "id"),
        # A name in a registry never comes to mean something else; what failed never got there.
        Index(
            "uq_packages_image", "workspace_id", "image_name", "image_label", unique=True, postgresql_where=NOT_FAILED
        ),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]
    models: Mapped[list[Any]]
    inference_config: Mapped[dict[str, Any]]
    environment_version_id: Mapped[UUID] = mapped_column(ForeignKey("environment_versions.id"))
    source_id: Mapped[UUID] = mapped_column(ForeignKey("snapshots.id"))
    image_name: Mapped[str]
    image_label: Mapped[str]
    operation_id: Mapped[UUID | None]
    image_id: Mapped[str | None]
    base_image: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    snapshot_id: Mapped[UUID | None] = mapped_column(ForeignKey("snapshots.id"))
    archive_sha256: Mapped[str | None] = mapped_column(String(64))
    archive_size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    pushed: Mapped[str | None]
    created_at: Mapped[Created]
    created_by: Mapped[str]
