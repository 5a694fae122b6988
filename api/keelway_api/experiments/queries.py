"""SELECTs of experiments and runs; each starts from one workspace or one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Float, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from keelway.contracts.experiments import Goal, OutputsState, RunState
from keelway.contracts.files import FileEntry
from keelway_api.errors import NotFound
from keelway_api.experiments.tables import ExperimentTable, RunMetricTable, RunOutputsTable, RunTable
from keelway_api.manifests.tables import ManifestFileTable, ManifestTable
from keelway_api.workspaces.tables import WorkspaceTable

ParentTable = aliased(RunTable)
RunRow = tuple[RunTable, str, str | None]
"""A run, its experiment's name and its parent's."""
NAMED = 50
NO_CANDIDATES = (RunState.FAILED, RunState.CANCELLED)


def _runs_in(workspace_id: UUID, experiment: str) -> Select[*tuple[Any, ...]]:
    return (
        select(RunTable, ExperimentTable.name, ParentTable.name)
        .join(ExperimentTable, ExperimentTable.id == RunTable.experiment_id)
        .outerjoin(ParentTable, ParentTable.id == RunTable.parent_id)
        .where(ExperimentTable.workspace_id == workspace_id, ExperimentTable.name == experiment)
    )


async def run(
    session: AsyncSession, workspace_id: UUID, experiment: str, name: str, *, is_locked: bool = False
) -> RunRow:
    """The run of that id. Raises NotFound."""
    wanted = _runs_in(workspace_id, experiment).where(RunTable.name == name)
    if is_locked:
        wanted = wanted.with_for_update(of=RunTable, key_share=True).execution_options(populate_existing=True)
    row = (await session.execute(wanted)).tuples().first()
    if row is None:
        raise NotFound("run", f"{experiment}/{name}")
    return row


async def runs(
    session: AsyncSession,
    workspace_id: UUID,
    experiment: str,
    conditions: Sequence[ColumnElement[bool]],
    *,
    before: UUID | None,
    limit: int,
) -> Sequence[RunRow]:
    """Runs, newest first, before an id."""
    wanted = _runs_in(workspace_id, experiment).where(*conditions)
    if before is not None:
        wanted = wanted.where(RunTable.id < before)
    return (await session.execute(wanted.order_by(RunTable.id.desc()).limit(limit))).tuples().all()


async def experiment(session: AsyncSession, workspace_id: UUID, name: str) -> ExperimentTable:
    """The experiment of that name. Raises NotFound."""
    wanted = select(ExperimentTable).where(ExperimentTable.workspace_id == workspace_id, ExperimentTable.name == name)
    row = await session.scalar(wanted)
    if row is None:
        raise NotFound("experiment", name)
    return row


async def experiments(
    session: AsyncSession, workspace_id: UUID, *, name: str | None, after: str | None, limit: int
) -> Sequence[ExperimentTable]:
    """Experiments by name; only the one called `name` when that is given."""
    wanted = select(ExperimentTable).where(ExperimentTable.workspace_id == workspace_id)
    if name is not None:
        wanted = wanted.where(ExperimentTable.name == name)
    if after is not None:
        wanted = wanted.where(ExperimentTable.name > after)
    return (await session.scalars(wanted.order_by(ExperimentTable.name).limit(limit))).all()


async def metrics(
    session: AsyncSession, run_id: UUID, *, name: str | None, after: int | None, limit: int
) -> Sequence[RunMetricTable]:
    """Values as they were reported, oldest first; only those called `name` when that is given."""
    wanted = select(RunMetricTable).where(RunMetricTable.run_id == run_id)
    if name is not None:
        wanted = wanted.where(RunMetricTable.name == name)
    if after is not None:
        wanted = wanted.where(RunMetricTable.id > after)
    return (await session.scalars(wanted.order_by(RunMetricTable.id).limit(limit))).all()


async def outputs(session: AsyncSession, run_id: UUID) -> list[FileEntry]:
    """All files that the run left, by path; one that was sent twice is there once."""
    file = ManifestFileTable
    wanted = (
        select(file.path, file.size_bytes, file.sha256)
        .distinct(file.path)
        .join(RunOutputsTable, RunOutputsTable.manifest_id == file.manifest_id)
        .where(RunOutputsTable.run_id == run_id, RunOutputsTable.state == OutputsState.READY)
        .order_by(file.path)
    )
    rows = await session.execute(wanted)
    return [FileEntry(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]


async def outputs_with(session: AsyncSession, digests: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Digest and 'workspace/experiment/run path' of every output with these bytes."""
    file = ManifestFileTable
    names = (WorkspaceTable.name, "/", ExperimentTable.name, "/", RunTable.name, " ", file.path)
    wanted = (
        select(file.sha256, func.concat(*names).label("file"))
        .distinct()
        .join(RunOutputsTable, RunOutputsTable.manifest_id == file.manifest_id)
        .join(RunTable, RunTable.id == RunOutputsTable.run_id)
        .join(ExperimentTable, ExperimentTable.id == RunTable.experiment_id)
        .join(WorkspaceTable, WorkspaceTable.id == ExperimentTable.workspace_id)
        .where(file.sha256.in_(digests), RunOutputsTable.state == OutputsState.READY)
        .order_by("file")
    )
    return (await session.execute(wanted)).tuples().all()


async def upload(
    session: AsyncSession, run_id: UUID, upload_id: UUID, *, is_locked: bool = False
) -> tuple[RunOutputsTable, ManifestTable]:
    """Outputs that were sent together. Raises NotFound."""
    wanted = (
        select(RunOutputsTable, ManifestTable)
        .join(ManifestTable, ManifestTable.id == RunOutputsTable.manifest_id)
        .where(RunOutputsTable.run_id == run_id, RunOutputsTable.id == upload_id)
    )
    if is_locked:
        wanted = wanted.with_for_update(of=RunOutputsTable).execution_options(populate_existing=True)
    row = (await session.execute(wanted)).tuples().first()
    if row is None:
        raise NotFound("upload", str(upload_id))
    return row


async def child_of_iteration(session: AsyncSession, parent_id: UUID, iteration: int) -> RunTable | None:
    """The child that has this number."""
    return await session.scalar(
        select(RunTable).where(RunTable.parent_id == parent_id, RunTable.iteration == iteration)
    )


async def best_child(session: AsyncSession, parent_id: UUID, metric: str, goal: Goal) -> RunTable | None:
    """The child whose last value of a metric is the best; of equal ones that of the lowest iteration."""
    value = RunTable.metrics[metric].astext.cast(Float)
    wanted = _candidates(select(RunTable), parent_id).where(RunTable.metrics.has_key(metric))
    ordered = wanted.order_by(
        value.asc() if goal is Goal.MINIMIZE else value.desc(), RunTable.iteration.asc().nulls_last(), RunTable.id
    )
    return await session.scalar(ordered.limit(1))


async def has_children(session: AsyncSession, parent_id: UUID) -> bool:
    """Whether any run has this parent."""
    return await session.scalar(select(RunTable.id).where(RunTable.parent_id == parent_id).limit(1)) is not None


async def iterations_of(session: AsyncSession, parent_id: UUID) -> list[int]:
    """The lowest numbers of its children."""
    wanted = select(RunTable.iteration).where(RunTable.parent_id == parent_id, RunTable.iteration.is_not(None))
    return [one for one in await session.scalars(wanted.order_by(RunTable.iteration).limit(NAMED)) if one is not None]


async def metrics_of_children(session: AsyncSession, parent_id: UUID) -> list[str]:
    """Names of what its children measured."""
    name = func.jsonb_object_keys(RunTable.metrics).label("name")
    wanted = _candidates(select(name), parent_id).distinct().order_by(name).limit(NAMED)
    return list(await session.scalars(wanted))


def _candidates(wanted: Select[Any], parent_id: UUID) -> Select[Any]:
    return wanted.where(RunTable.parent_id == parent_id, RunTable.state.not_in(NO_CANDIDATES))
