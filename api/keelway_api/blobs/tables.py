"""Blobs, the uploads they come from, and objects that nobody needs any more."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Integer, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.blobs.objects import StoredBlob
from keelway_api.tables import Base, Created, Id


class BlobTable(Base):
    """Bytes that the object store holds, by their sha256, and the object or parts they lie in.

    `condemned_at`: since when nothing refers to them. `damaged_at`: since when the store gives back other bytes.
    """

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    upload_id: Mapped[UUID]
    part_bytes: Mapped[int]
    part_epochs: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    created_at: Mapped[Created]
    verified_at: Mapped[Created] = mapped_column(index=True)
    condemned_at: Mapped[datetime | None] = mapped_column(index=True)
    damaged_at: Mapped[datetime | None] = mapped_column(index=True)

    @property
    def stored(self) -> StoredBlob:
        """Where the bytes lie."""
        return StoredBlob(self.sha256, self.size_bytes, self.upload_id, self.part_bytes, tuple(self.part_epochs))


class BlobUploadTable(Base):
    """Bytes on their way in. Whoever sends them raises `epoch`: an earlier sender's parts count no more after that."""

    __tablename__ = "blob_uploads"
    __table_args__ = (UniqueConstraint("token_id", "sha256", "size_bytes"),)

    id: Mapped[Id]
    token_id: Mapped[str] = mapped_column(String(12))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int]
    epoch: Mapped[int] = mapped_column(default=1)
    part_epochs: Mapped[list[int]] = mapped_column(ARRAY(Integer), default=list)
    updated_at: Mapped[Created] = mapped_column(index=True)

    @property
    def received_bytes(self) -> int:
        """How much is stored; an interrupted upload goes on there."""
        return min(len(self.part_epochs) * self.part_bytes, self.size_bytes)


class GarbageTable(Base):
    """Objects of an upload that are to be deleted, all but those of `kept_epochs`."""

    __tablename__ = "garbage"

    upload_id: Mapped[UUID] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    kept_epochs: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    since: Mapped[Created] = mapped_column(index=True)
