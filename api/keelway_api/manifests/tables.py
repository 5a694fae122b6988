"""Manifests: which bytes make up a version or a snapshot, and which of them have arrived."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class ManifestTable(Base):
    """A set of files; sealed once all bytes are there, and never changed after. `touched_at`: when bytes came last.

    `token_id`: who opened it, and so sends its bytes.
    """

    __tablename__ = "manifests"

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), index=True)
    token_id: Mapped[str] = mapped_column(String(12))
    is_sealed: Mapped[bool] = mapped_column(default=False)
    digest: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[Created]
    touched_at: Mapped[Created]


class ManifestFileTable(Base):
    """One file of a manifest. `is_received`: its bytes came from somebody who may read this workspace."""

    __tablename__ = "manifest_files"
    __table_args__ = (Index("ix_manifest_files_sha256", "sha256"),)

    manifest_id: Mapped[UUID] = mapped_column(ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    is_received: Mapped[bool]
