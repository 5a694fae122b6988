"""Environments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from keelway.contracts.base import MODEL_NAME, Page
from keelway.contracts.environments import (
    Environment,
    EnvironmentLock,
    EnvironmentVersion,
    EnvironmentVersionCreate,
)
from keelway.contracts.operations import Operation
from keelway_api.auth.dependencies import Contributor, Reader
from keelway_api.db import Session, SessionFactory
from keelway_api.environments import service
from keelway_api.idempotency import Once
from keelway_api.pagination import Paging
from keelway_api.query import NameFilter

router = APIRouter(prefix="/workspaces/{workspace}/environments", tags=["environments"])
Name = Annotated[str, Path(pattern=MODEL_NAME)]


@router.get("")
async def list_environments(
    scope: Reader, session: Session, paging: Paging, name: NameFilter = None
) -> Page[Environment]:
    """Environments by name, each with its newest version."""
    rows = await service.list_environments(session, scope, name=name, after=paging.after_text(), limit=paging.limit + 1)
    return paging.page(rows, lambda environment: environment.name)


@router.post("/{name}/versions", status_code=201)
async def register(
    name: Name,
    body: EnvironmentVersionCreate,
    scope: Contributor,
    sessions: SessionFactory,
    request: Request,
    response: Response,
) -> EnvironmentVersion:
    """Resolve and keep an environment: 201 for a new version, 200 when one with the same content exists."""
    version, is_new = await service.register(sessions, scope, name, body, request.app.state.settings)
    response.status_code = 201 if is_new else 200
    return version


@router.get("/{name}/versions")
async def list_versions(name: Name, scope: Reader, session: Session, paging: Paging) -> Page[EnvironmentVersion]:
    """Versions of an environment, newest first."""
    rows = await service.list_versions(session, scope, name, before=paging.after_int(), limit=paging.limit + 1)
    return paging.page(rows, lambda version: version.version)


@router.get("/{name}/versions/{version}")
async def show_version(name: Name, version: str, scope: Reader, session: Session) -> EnvironmentVersion:
    """One version."""
    return service.contract(await service.get_row(session, scope, name, version))


@router.get("/{name}/versions/{version}/lock")
async def show_lock(name: Name, version: str, scope: Reader, session: Session) -> EnvironmentLock:
    """The exact packages of a version, with hashes."""
    return service.lock_of(await service.get_row(session, scope, name, version))


@router.post("/{name}/versions/{version}/build", status_code=202, response_model=Operation)
async def build(
    name: Name, version: str, scope: Contributor, session: Session, request: Request, once: Once
) -> Response:
    """Build it now, so that a deployment finds it built."""
    settings = request.app.state.settings
    return await once.answer(
        session,
        202,
        lambda: service.build(session, scope, name, version, settings),
        headers=lambda operation: {"Location": f"/v1/operations/{operation.id}"},
    )
