"""Experiments, runs, their metrics and outputs, and how a model is made of them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from keelway.contracts.base import MODEL_NAME, Page
from keelway.contracts.experiments import (
    Experiment,
    Metric,
    MetricsReport,
    OutputsCreate,
    OutputsUpload,
    RegisteredRun,
    Run,
    RunCreate,
    RunRegister,
    RunRegisterBest,
    RunState,
    RunUpdate,
)
from keelway.contracts.files import FileEntry
from keelway.contracts.models import ModelVersion
from keelway_api.auth.dependencies import Contributor, Reader
from keelway_api.db import Session, SessionFactory
from keelway_api.experiments import outputs, register, service
from keelway_api.idempotency import Once
from keelway_api.manifests.opening import check_sizes
from keelway_api.pagination import Paging, row_number
from keelway_api.preconditions import Precondition
from keelway_api.query import NameFilter, Pairs

router = APIRouter(prefix="/workspaces/{workspace}/experiments", tags=["experiments"])
ExperimentName = Annotated[str, Path(pattern=MODEL_NAME)]
RunId = Annotated[str, Path(pattern=MODEL_NAME)]
Parent = Annotated[str | None, Query(pattern=MODEL_NAME, description="only children of this run")]


@router.get("")
async def list_experiments(
    scope: Reader, session: Session, paging: Paging, name: NameFilter = None
) -> Page[Experiment]:
    """Experiments by name."""
    after = paging.after_text()
    rows = await service.list_experiments(session, scope, name=name, after=after, limit=paging.limit + 1)
    return paging.page(rows, lambda experiment: experiment.name)


@router.post("/{experiment}/runs", status_code=201, response_model=Run)
async def create_run(
    experiment: ExperimentName, body: RunCreate, scope: Contributor, session: Session, once: Once
) -> Response:
    """Begin a run. Its experiment is made with its first run."""
    return await once.answer(session, 201, lambda: service.create_run(session, scope, experiment, body))


@router.get("/{experiment}/runs")
async def list_runs(
    experiment: ExperimentName,
    scope: Reader,
    session: Session,
    paging: Paging,
    *,
    state: RunState | None = None,
    parent: Parent = None,
    tag: Pairs = [],  # noqa: B006 - FastAPI reads it, nobody changes it
) -> Page[Run]:
    """Runs of an experiment, newest first."""
    cursor = paging.after(UUID)
    rows = await service.list_runs(
        session,
        scope,
        experiment,
        state=state,
        parent=parent,
        tags=tag,
        before=cursor[0] if cursor else None,
        limit=paging.limit + 1,
    )
    page = paging.page(rows, lambda row: str(row[0]))
    return Page(items=[run for _, run in page.items], next_page_token=page.next_page_token)


@router.get("/{experiment}/runs/{run}")
async def show_run(experiment: ExperimentName, run: RunId, scope: Reader, session: Session, response: Response) -> Run:
    """One run, with the last value of each of its metrics."""
    found = await service.get_run(session, scope, experiment, run)
    response.headers["ETag"] = found.etag
    return found


@router.patch("/{experiment}/runs/{run}")
async def update_run(
    experiment: ExperimentName,
    run: RunId,
    body: RunUpdate,
    scope: Contributor,
    session: Session,
    response: Response,
    precondition: Precondition,
) -> Run:
    """Describe a run anew, or end it."""
    found = await service.update_run(session, scope, experiment, run, body, precondition)
    response.headers["ETag"] = found.etag
    return found


@router.post("/{experiment}/runs/{run}/metrics", status_code=201, response_model=Run)
async def report_metrics(
    experiment: ExperimentName, run: RunId, body: MetricsReport, scope: Contributor, session: Session, once: Once
) -> Response:
    """Add values of metrics to a run that is running."""
    return await once.answer(session, 201, lambda: service.report_metrics(session, scope, experiment, run, body))


@router.get("/{experiment}/runs/{run}/metrics")
async def list_metrics(
    experiment: ExperimentName, run: RunId, scope: Reader, session: Session, paging: Paging, name: NameFilter = None
) -> Page[Metric]:
    """Every value of every metric, in the order of the reports."""
    cursor = paging.after(row_number)
    rows = await service.list_metrics(
        session, scope, experiment, run, metric=name, after=cursor[0] if cursor else None, limit=paging.limit + 1
    )
    page = paging.page(rows, lambda row: row[0])
    return Page(items=[metric for _, metric in page.items], next_page_token=page.next_page_token)


@router.post("/{experiment}/runs/{run}/outputs", status_code=201, response_model=OutputsUpload)
async def open_outputs(
    experiment: ExperimentName,
    run: RunId,
    body: OutputsCreate,
    scope: Contributor,
    request: Request,
    session: Session,
    once: Once,
) -> Response:
    """Announce files of a run that is running: the answer says where to PUT each blob that is missing."""
    check_sizes(body.files, request.app.state.settings.max_file_bytes)
    return await once.answer(session, 201, lambda: outputs.open_upload(session, scope, experiment, run, body))


@router.post("/{experiment}/runs/{run}/outputs/{upload}/commit")
async def commit_outputs(
    experiment: ExperimentName, run: RunId, upload: UUID, scope: Contributor, request: Request, sessions: SessionFactory
) -> OutputsUpload:
    """Make the files outputs of the run once every blob is there."""
    return await outputs.commit_upload(sessions, request.app.state.blobs, scope, experiment, run, upload)


@router.get("/{experiment}/runs/{run}/outputs")
async def list_outputs(experiment: ExperimentName, run: RunId, scope: Reader, session: Session) -> Page[FileEntry]:
    """The files that the run left."""
    return Page(items=await outputs.list_outputs(session, scope, experiment, run))


@router.post("/{experiment}/runs/{run}/register", status_code=201, response_model=ModelVersion)
async def register_run(
    experiment: ExperimentName, run: RunId, body: RunRegister, scope: Contributor, session: Session, once: Once
) -> Response:
    """Make a model version of a file or a folder among its outputs; no bytes are sent again."""
    return await once.answer(session, 201, lambda: register.register(session, scope, experiment, run, body))


@router.post("/{experiment}/runs/{run}/register-best", status_code=201, response_model=RegisteredRun)
async def register_best_run(
    experiment: ExperimentName, run: RunId, body: RunRegisterBest, scope: Contributor, session: Session, once: Once
) -> Response:
    """Make a model version of one of its children: by iteration, or the best by a metric."""
    return await once.answer(session, 201, lambda: register.register_best(session, scope, experiment, run, body))
