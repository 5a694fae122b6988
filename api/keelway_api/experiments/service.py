"""Runs: begun, described, measured, ended."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.expression import cast

from keelway.contracts.experiments import (
    MAX_METRICS,
    Experiment,
    Goal,
    Metric,
    MetricsReport,
    Run,
    RunCreate,
    RunState,
    RunUpdate,
)
from keelway_api import events
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.errors import AlreadyExists, InvalidRequest, WrongState
from keelway_api.experiments import queries
from keelway_api.experiments.queries import RunRow
from keelway_api.experiments.tables import ExperimentTable, RunMetricTable, RunTable
from keelway_api.preconditions import IfMatch
from keelway_api.properties import grown


async def create_run(session: AsyncSession, scope: Scope, experiment: str, body: RunCreate) -> Run:
    """A new run; its experiment is made when it is the first. Raises NotFound for its parent, AlreadyExists."""
    experiment_id = await _experiment_id(session, scope, experiment)
    name = body.id or f"run-{secrets.token_hex(6)}"
    parent_id = None
    if body.parent is not None:
        parent_id = (await queries.run(session, scope.workspace_id, experiment, body.parent))[0].id
    said = body.model_dump(exclude={"id", "parent"})
    values = {"experiment_id": experiment_id, "name": name, "parent_id": parent_id, "metrics": {}, **said}
    made = upsert(RunTable).values(**values, state=RunState.RUNNING, created_by=scope.principal.name)
    if await session.scalar(made.on_conflict_do_nothing().returning(RunTable.id)) is None:
        is_name = select(RunTable.id).where(RunTable.experiment_id == experiment_id, RunTable.name == name)
        if await session.scalar(is_name):
            raise AlreadyExists("run", f"{experiment}/{name}")
        raise AlreadyExists(f"child of {body.parent!r} with the iteration", str(body.iteration))
    await _record(session, scope, "run.create", experiment, name)
    await _announce(session, scope, "run.created", experiment, name)
    return contract(await queries.run(session, scope.workspace_id, experiment, name))


async def _experiment_id(session: AsyncSession, scope: Scope, name: str) -> UUID:
    values = {"workspace_id": scope.workspace_id, "name": name, "created_by": scope.principal.name}
    made = upsert(ExperimentTable).values(**values).on_conflict_do_nothing().returning(ExperimentTable.id)
    return await session.scalar(made) or (await queries.experiment(session, scope.workspace_id, name)).id


async def list_experiments(
    session: AsyncSession, scope: Scope, *, name: str | None, after: str | None, limit: int
) -> list[Experiment]:
    """Experiments by name; only the one called `name` when that is given."""
    rows = await queries.experiments(session, scope.workspace_id, name=name, after=after, limit=limit)
    return [Experiment(name=row.name, created_at=row.created_at, created_by=row.created_by) for row in rows]


async def get_run(session: AsyncSession, scope: Scope, experiment: str, name: str) -> Run:
    """One run. Raises NotFound."""
    return contract(await queries.run(session, scope.workspace_id, experiment, name))


async def list_runs(
    session: AsyncSession,
    scope: Scope,
    experiment: str,
    *,
    state: RunState | None,
    parent: str | None,
    tags: Sequence[str],
    before: UUID | None,
    limit: int,
) -> list[tuple[UUID, Run]]:
    """Runs of an experiment, newest first, each with its paging key. Raises NotFound for experiment and parent."""
    await queries.experiment(session, scope.workspace_id, experiment)
    conditions = [_tagged(tag) for tag in tags]
    if state is not None:
        conditions.append(RunTable.state == state)
    if parent is not None:
        found = await queries.run(session, scope.workspace_id, experiment, parent)
        conditions.append(RunTable.parent_id == found[0].id)
    rows = await queries.runs(session, scope.workspace_id, experiment, conditions, before=before, limit=limit)
    return [(row[0].id, contract(row)) for row in rows]


def _tagged(tag: str) -> ColumnElement[bool]:
    key, equals, value = tag.partition("=")
    if not key:
        raise InvalidRequest("query.tag", "must be 'key' or 'key=value'")
    return RunTable.tags.contains({key: value}) if equals else RunTable.tags.has_key(key)


async def update_run(
    session: AsyncSession, scope: Scope, experiment: str, name: str, body: RunUpdate, precondition: IfMatch
) -> Run:
    """Say something else of a run, or end it. Raises NotFound, PreconditionFailed, WrongState, Immutable."""
    row = await queries.run(session, scope.workspace_id, experiment, name, is_locked=True)
    run = row[0]
    precondition.check(_etag(run))
    said = body.model_dump(exclude_none=True)
    if body.properties is not None:
        said["properties"] = grown(f"properties of run {run.name}", run.properties, body.properties)
    changed = {field: value for field, value in said.items() if getattr(run, field) != value}
    if "state" in changed:
        require_running(row)
        run.ended_at = func.now()
    for field, value in changed.items():
        setattr(run, field, value)
    if changed:
        await session.flush()
        await session.refresh(run)
        await _record(session, scope, "run.update", experiment, name, fields=sorted(changed))
    if "state" in changed:
        await _announce(session, scope, f"run.{run.state}", experiment, name)
    return contract(row)


def require_running(row: RunRow) -> None:
    """Raises WrongState once a run has ended."""
    run, experiment, _ = row
    if run.state != RunState.RUNNING:
        raise WrongState(f"run {experiment}/{run.name}", run.state, "a running one")


async def report_metrics(session: AsyncSession, scope: Scope, experiment: str, name: str, body: MetricsReport) -> Run:
    """Add values to a run that is running. Raises NotFound, WrongState, InvalidRequest for too many different names."""
    row = await queries.run(session, scope.workspace_id, experiment, name)
    run = row[0]
    last = {metric.name: metric.value for metric in body.metrics}
    # One statement both asks whether the run goes on and puts reports that come at once into an order.
    added = (
        update(RunTable)
        .where(RunTable.id == run.id, RunTable.state == RunState.RUNNING)
        .values(metrics=RunTable.metrics.op("||")(cast(last, JSONB)))
        .returning(RunTable.metrics)
    )
    metrics = await session.scalar(added, execution_options={"synchronize_session": False})
    await session.refresh(run)
    if metrics is None:
        require_running(row)
    if len(run.metrics) > MAX_METRICS:
        raise InvalidRequest("body.metrics", f"a run has at most {MAX_METRICS} different metrics")
    values = [{"run_id": run.id, **metric.model_dump()} for metric in body.metrics]
    await session.execute(insert(RunMetricTable), values)
    return contract(row)


async def list_metrics(
    session: AsyncSession,
    scope: Scope,
    experiment: str,
    name: str,
    *,
    metric: str | None,
    after: int | None,
    limit: int,
) -> list[tuple[int, Metric]]:
    """Values as they were reported, oldest first, each with its paging key. Raises NotFound."""
    run, _, _ = await queries.run(session, scope.workspace_id, experiment, name)
    rows = await queries.metrics(session, run.id, name=metric, after=after, limit=limit)
    return [(row.id, Metric(name=row.name, value=row.value, step=row.step, at=row.at)) for row in rows]


def contract(row: RunRow) -> Run:
    """A run as it goes over the wire."""
    run, experiment, parent = row
    return Run(
        id=run.name,
        experiment=experiment,
        state=RunState(run.state),
        parent=parent,
        iteration=run.iteration,
        display_name=run.display_name,
        description=run.description,
        primary_metric=run.primary_metric,
        goal=Goal(run.goal) if run.goal else None,
        metrics=run.metrics,
        tags=run.tags,
        properties=run.properties,
        model_id=run.model_name,
        created_at=run.created_at,
        created_by=run.created_by,
        ended_at=run.ended_at,
        etag=_etag(run),
    )


def _etag(run: RunTable) -> str:
    return f'"{run.row_version}"'


async def _record(session: AsyncSession, scope: Scope, action: str, experiment: str, name: str, **detail: Any) -> None:
    subject = subject_of(experiment, name)
    await audit.record(session, scope.principal, action, subject, workspace_id=scope.workspace_id, **detail)


async def _announce(session: AsyncSession, scope: Scope, event: str, experiment: str, name: str) -> None:
    subject = subject_of(experiment, name)
    await events.emit(session, event, workspace_id=scope.workspace_id, subject=subject, experiment=experiment, run=name)


def subject_of(experiment: str, name: str) -> str:
    """What audit and events call a run."""
    return f"experiments/{experiment}/runs/{name}"
