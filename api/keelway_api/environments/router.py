"""Environments."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response

from keelway.contracts.base import MODEL_NAME, Page
from keelway.contracts.environment_json import EnvironmentDefinition
from keelway.contracts.environments import (
    Environment,
    EnvironmentLock,
    EnvironmentVersion,
    EnvironmentVersionCreate,
    LockDiff,
)
from keelway.contracts.images import EnvironmentBuild
from keelway.contracts.operations import Operation
from keelway_api.auth.dependencies import Contributor, Reader
from keelway_api.db import Session, SessionFactory
from keelway_api.environments import registration, service
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
    state = request.app.state
    version, is_new = await registration.register(sessions, state.blobs, scope, name, body, state.settings)
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


@router.get("/{name}/versions/{version}/lock/diff")
async def show_lock_diff(
    name: Name,
    version: str,
    scope: Reader,
    session: Session,
    before: Annotated[str, Query(alias="from", description="the version to compare with: a number or `latest`")],
) -> LockDiff:
    """What became of the lock since another version: packages added, removed, and in other versions."""
    return await service.lock_diff(session, scope, name, before, version)


@router.get("/{name}/versions/{version}/definition")
async def show_definition(name: Name, version: str, scope: Reader, session: Session) -> EnvironmentDefinition:
    """One version as the Environment JSON of the Azure ML SDK v1, without the registry's password."""
    row = await service.get_row(session, scope, name, version)
    return await anyio.to_thread.run_sync(service.definition_of, row)  # a long YAML file takes seconds


@router.post("/{name}/versions/{version}/build", status_code=202, response_model=Operation)
async def build(
    name: Name,
    version: str,
    scope: Contributor,
    session: Session,
    request: Request,
    once: Once,
    body: EnvironmentBuild | None = None,
) -> Response:
    """Build it now, so that a deployment finds it built: on a node, or with target `docker` as an image."""
    settings = request.app.state.settings
    wanted = body or EnvironmentBuild()
    return await once.answer(
        session,
        202,
        lambda: service.build(session, scope, name, version, wanted, settings),
        headers=lambda operation: {"Location": f"/v1/operations/{operation.id}"},
    )
