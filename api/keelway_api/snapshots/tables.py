"""Snapshots: a manifest under the name of its digest."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class SnapshotTable(Base):
    """A source directory; uploading the same one twice is one snapshot.

    `whole_at`: when all its bytes were there first. From then on others refer to it, also while it is sent again
    because bytes of it were lost.
    """

    __tablename__ = "snapshots"
    __table_args__ = (UniqueConstraint("workspace_id", "digest"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    digest: Mapped[str] = mapped_column(String(64))
    manifest_id: Mapped[UUID] = mapped_column(ForeignKey("manifests.id"))
    state: Mapped[str] = mapped_column(String(16))
    whole_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    created_by: Mapped[str]
