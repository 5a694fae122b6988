"""Services, their revisions and replicas, and what replicas wrote and collected."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class ServiceTable(Base):
    """Desired state of a web service, and what is known of it now."""

    __tablename__ = "services"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]
    target: Mapped[str] = mapped_column(String(16))
    is_deleting: Mapped[bool] = mapped_column(default=False)
    failure: Mapped[str] = mapped_column(default="")
    generation: Mapped[int] = mapped_column(default=1)
    observed_generation: Mapped[int] = mapped_column(default=0)
    description: Mapped[str]
    tags: Mapped[dict[str, Any]]
    properties: Mapped[dict[str, Any]]
    operation_id: Mapped[UUID | None]
    created_at: Mapped[Created]
    created_by: Mapped[str]
    row_version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": row_version}  # noqa: RUF012

    @property
    def subject(self) -> str:
        """What operations, events and uses of models call it."""
        return f"services/{self.name}"


class RevisionTable(Base):
    """One immutable configuration. `traffic` is the percent of requests it gets, `served_at` when it last began to."""

    __tablename__ = "revisions"
    __table_args__ = (UniqueConstraint("service_id", "number"),)

    id: Mapped[Id]
    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id", ondelete="CASCADE"))
    number: Mapped[int]
    models: Mapped[list[Any]]
    inference_config: Mapped[dict[str, Any]]
    deployment_config: Mapped[dict[str, Any]]
    environment_version_id: Mapped[UUID] = mapped_column(ForeignKey("environment_versions.id"))
    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("snapshots.id"))
    num_replicas: Mapped[int]
    image: Mapped[str | None]
    image_id: Mapped[UUID | None] = mapped_column(ForeignKey("images.id"))
    traffic: Mapped[int] = mapped_column(default=0)
    served_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    created_by: Mapped[str]

    @property
    def name(self) -> str:
        """What people call it: r1, r2, ..."""
        return f"r{self.number}"


class ReplicaTable(Base):
    """One server that should run (`is_wanted`) or is on its way out, as its node last saw it."""

    __tablename__ = "replicas"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(80), unique=True)
    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id", ondelete="CASCADE"), index=True)
    revision_id: Mapped[UUID] = mapped_column(ForeignKey("revisions.id", ondelete="CASCADE"), index=True)
    node: Mapped[str] = mapped_column(ForeignKey("nodes.name"), index=True)
    is_wanted: Mapped[bool] = mapped_column(default=True)
    generation: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(default="")
    url: Mapped[str | None]
    pid: Mapped[int | None]
    restarts: Mapped[int] = mapped_column(default=0)
    exit_code: Mapped[int | None]
    log_tail: Mapped[list[Any]] = mapped_column(default=list)
    started_at: Mapped[datetime | None]


class ReplicaLogTable(Base):
    """A piece of what a replica wrote; the newest MiB is kept."""

    __tablename__ = "replica_logs"

    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id", ondelete="CASCADE"), index=True)
    replica: Mapped[str] = mapped_column(String(80), primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size_bytes: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    at: Mapped[Created]


class CollectedFileTable(Base):
    """A file of rows that a replica collected. By the name of its service, which it outlives."""

    __tablename__ = "collected_files"
    __table_args__ = (UniqueConstraint("workspace_id", "service", "path"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    service: Mapped[str] = mapped_column(String(32))
    path: Mapped[str] = mapped_column(String(1024))
    designation: Mapped[str] = mapped_column(String(64))
    day: Mapped[date]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[Created]
