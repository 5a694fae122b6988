"""What was found in blobs, and which versions wait for somebody to look."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created


class BlobInspectionTable(Base):
    """What a blob is. The same bytes are not looked at twice by the same inspector, whoever brings them."""

    __tablename__ = "blob_inspections"

    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True)
    inspector: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))
    findings: Mapped[list[Any]]
    inspected_at: Mapped[Created]


class VersionInspectionTable(Base):
    """A version without a label, and the operation that is to give it one.

    `tries`: how many operations failed that a worker had begun; `next_at`: when another is started, if ever.
    """

    __tablename__ = "version_inspections"

    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True)
    operation_id: Mapped[UUID | None]
    tries: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime | None] = mapped_column(index=True)
