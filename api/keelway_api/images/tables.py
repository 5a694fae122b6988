"""Images of environments, as files that any engine can load."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class ImageTable(Base):
    """A built image. The same identity is the same image; `snapshot_id`: its files in the OCI layout."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("workspace_id", "identity"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    environment_version_id: Mapped[UUID] = mapped_column(ForeignKey("environment_versions.id"))
    identity: Mapped[str] = mapped_column(String(64))
    name: Mapped[str]
    image_id: Mapped[str]
    base_image: Mapped[str]
    base_id: Mapped[str]
    python_version: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("snapshots.id"))
    archive_sha256: Mapped[str] = mapped_column(String(64))
    archive_size_bytes: Mapped[int] = mapped_column(BigInteger)
    pushed: Mapped[str | None]
    created_at: Mapped[Created]
    created_by: Mapped[str]
