"""Experiments, their runs, what runs measured, and the files they left."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base, Created, Id


class ExperimentTable(Base):
    """A name that runs belong to."""

    __tablename__ = "experiments"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[Created]
    created_by: Mapped[str]


class RunTable(Base):
    """One run; `name` is the id that its users know. `metrics`: the last value of each.

    `model_name`: of the model that was made of it, or of its child, as the best.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("experiment_id", "name"),
        UniqueConstraint("parent_id", "iteration"),
        Index("ix_runs_experiment_id_id", "experiment_id", "id"),
        Index("ix_runs_parent_id_id", "parent_id", "id"),
    )

    id: Mapped[Id]
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id"))
    name: Mapped[str] = mapped_column(String(255))
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id"))
    iteration: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16))
    display_name: Mapped[str]
    description: Mapped[str]
    primary_metric: Mapped[str | None]
    goal: Mapped[str | None] = mapped_column(String(16))
    metrics: Mapped[dict[str, Any]]
    tags: Mapped[dict[str, Any]]
    properties: Mapped[dict[str, Any]]
    model_name: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[Created]
    created_by: Mapped[str]
    ended_at: Mapped[datetime | None]
    row_version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": row_version}  # noqa: RUF012


class RunMetricTable(Base):
    """One reported value; ids are in the order of the reports."""

    __tablename__ = "run_metrics"
    __table_args__ = (Index("ix_run_metrics_run_id_id", "run_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    value: Mapped[float]
    step: Mapped[int | None] = mapped_column(BigInteger)
    at: Mapped[Created]


class RunOutputsTable(Base):
    """Files that were sent together. A run's outputs are those of all that are `ready`."""

    __tablename__ = "run_outputs"

    id: Mapped[Id]
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    manifest_id: Mapped[UUID] = mapped_column(ForeignKey("manifests.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    created_at: Mapped[Created]
    created_by: Mapped[str]
