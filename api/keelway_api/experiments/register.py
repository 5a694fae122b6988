"""From a run to a model: its outputs become a version, without a byte sent again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.experiments import Goal, RegisteredRun, RunRegister, RunRegisterBest
from keelway.contracts.files import FileEntry
from keelway.contracts.models import ModelVersion, VersionAbout
from keelway_api.auth.dependencies import Scope
from keelway_api.errors import InvalidRequest, NoSuchChild, OutputNotFound
from keelway_api.experiments import queries
from keelway_api.experiments.queries import RunRow
from keelway_api.experiments.tables import RunTable
from keelway_api.models import from_files

OUTPUTS = "outputs/"
MAX_NAME = 255


async def register(session: AsyncSession, scope: Scope, experiment: str, name: str, body: RunRegister) -> ModelVersion:
    """A version of a file or a folder among the run's outputs. Raises NotFound, OutputNotFound."""
    run, _, _ = await queries.run(session, scope.workspace_id, experiment, name)
    return await _register(session, scope, experiment, run, body.name, body.model_path or body.name, body)


async def register_best(
    session: AsyncSession, scope: Scope, experiment: str, name: str, body: RunRegisterBest
) -> RegisteredRun:
    """A version of outputs of one child; child and parent remember the model's name.

    Raises NotFound, NoSuchChild, OutputNotFound, InvalidRequest for a metric without a goal.
    """
    parent = await queries.run(session, scope.workspace_id, experiment, name, is_locked=True)
    picked = await _pick(session, parent, body)
    child, _, _ = await queries.run(session, scope.workspace_id, experiment, picked.name, is_locked=True)
    model = body.name or _generated(experiment, child.name)
    version = await _register(session, scope, experiment, child, model, body.model_path, body)
    parent[0].model_name = child.model_name = model
    await session.flush()
    return RegisteredRun(**version.model_dump(), model_id=model)


async def _register(
    session: AsyncSession, scope: Scope, experiment: str, run: RunTable, model: str, path: str, about: VersionAbout
) -> ModelVersion:
    outputs = await queries.outputs(session, run.id)
    reference = f"{experiment}/{run.name}"
    files = chosen(outputs, path)
    if not files:
        raise OutputNotFound(reference, path, [file.path for file in outputs])
    return await from_files.register(session, scope, model, files, about, run=reference)


def chosen(outputs: Sequence[FileEntry], path: str) -> list[FileEntry]:
    """The file or the folder that a path means, under its last segment alone; with or without `outputs/`."""
    for start in (path, OUTPUTS + path, path.removeprefix(OUTPUTS)):
        cut = start.rfind("/") + 1
        found = [file for file in outputs if file.path == start or file.path.startswith(f"{start}/")]
        if found:
            return [file.model_copy(update={"path": file.path[cut:]}) for file in found]
    return []


async def _pick(session: AsyncSession, parent: RunRow, body: RunRegisterBest) -> RunTable:
    run, experiment, _ = parent
    reference = f"{experiment}/{run.name}"
    if not await queries.has_children(session, run.id):
        raise NoSuchChild(f"Run {reference} has no child runs", [])
    if body.iteration is not None:
        child = await queries.child_of_iteration(session, run.id, body.iteration)
        if child is None:
            there = await queries.iterations_of(session, run.id)
            raise NoSuchChild(f"Run {reference} has no child with the iteration {body.iteration}", there)
        return child
    metric, goal = _comparison(run, body)
    child = await queries.best_child(session, run.id, metric, goal)
    if child is None:
        there = await queries.metrics_of_children(session, run.id)
        raise NoSuchChild(f"No child of run {reference} that may be picked has the metric {metric!r}", there)
    return child


def _comparison(parent: RunTable, body: RunRegisterBest) -> tuple[str, Goal]:
    """The metric that decides, and which of its values is the better one. Raises InvalidRequest."""
    metric = body.metric or parent.primary_metric
    if metric is None:
        raise InvalidRequest("body.metric", "the run has no primary metric; give iteration, or metric and goal")
    goal = body.goal or (parent.goal if metric == parent.primary_metric else None)
    if goal is None:
        primary = f"{parent.primary_metric!r}" if parent.primary_metric else "none"
        raise InvalidRequest("body.goal", f"needed: {metric!r} is not the run's primary metric, which is {primary}")
    return metric, Goal(goal)


def _generated(experiment: str, run: str) -> str:
    """A model's name, the same each time for the same run."""
    name = f"{experiment}-{run}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: MAX_NAME - len(digest) - 1]}-{digest}"
