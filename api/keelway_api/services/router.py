"""Services for people: create, look at, read logs and collected data, delete."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response

from keelway.contracts.base import SERVICE_NAME, Page
from keelway.contracts.collected import IDENTIFIER, CollectedDeletion, CollectedFile
from keelway.contracts.operations import Operation
from keelway.contracts.services import Revision, Rollback, Service, ServiceCreate, ServiceUpdate
from keelway_api import sse
from keelway_api.auth.dependencies import Deployer, Reader
from keelway_api.blobs.answers import file_response
from keelway_api.db import Session, SessionFactory
from keelway_api.idempotency import Once
from keelway_api.pagination import Paging
from keelway_api.preconditions import Precondition
from keelway_api.query import NameFilter
from keelway_api.services import collected, logs, queries, service, updates

router = APIRouter(prefix="/workspaces/{workspace}/services", tags=["services"])
Name = Annotated[str, Path(pattern=SERVICE_NAME, min_length=3, max_length=32)]
DEFAULT_TAIL = 1000


@router.post("", status_code=202, response_model=Service)
async def create_service(
    body: ServiceCreate, scope: Deployer, session: Session, request: Request, once: Once
) -> Response:
    """Deploy a new service. Location names the operation to follow."""
    settings = request.app.state.settings
    return await once.answer(
        session,
        202,
        lambda: service.create(session, scope, body, settings),
        headers=lambda made: {"Location": f"/v1/operations/{made.operation}"},
    )


@router.get("")
async def list_services(
    scope: Reader, session: Session, request: Request, paging: Paging, name: NameFilter = None
) -> Page[Service]:
    """Services by name."""
    rows = await service.list_services(
        session, scope, request.app.state.settings, name=name, after=paging.after_text(), limit=paging.limit + 1
    )
    return paging.page(rows, lambda found: found.name)


@router.get("/{name}")
async def show_service(name: Name, scope: Reader, session: Session, request: Request, response: Response) -> Service:
    """One service, with its revisions and replicas."""
    found = await service.get(session, scope, name, request.app.state.settings)
    response.headers["ETag"] = found.etag
    return found


@router.get("/{name}/revisions")
async def list_revisions(name: Name, scope: Reader, session: Session, request: Request) -> Page[Revision]:
    """Its revisions, newest first."""
    return Page(items=(await service.get(session, scope, name, request.app.state.settings)).revisions)


@router.patch("/{name}", response_model=Service, responses={202: {"model": Service}})
async def update_service(
    name: Name,
    body: ServiceUpdate,
    scope: Deployer,
    session: Session,
    request: Request,
    response: Response,
    precondition: Precondition,
) -> Service:
    """Change a service; If-Match is honoured.

    202 and a Location where that brings up a new revision: the old one serves until the new one answers, and goes on
    when it does not.
    """
    changed, operation = await updates.update(session, scope, name, body, request.app.state.settings, precondition)
    response.headers["ETag"] = changed.etag
    if operation is not None:
        response.status_code = 202
        response.headers["Location"] = f"/v1/operations/{operation.id}"
    return changed


@router.post("/{name}/rollback", status_code=202, response_model=Service)
async def rollback_service(
    name: Name,
    body: Rollback,
    scope: Deployer,
    session: Session,
    request: Request,
    once: Once,
    precondition: Precondition,
) -> Response:
    """Have it run what an earlier revision ran, as a new revision. Location names the operation to follow."""
    settings = request.app.state.settings
    return await once.answer(
        session,
        202,
        lambda: updates.rollback(session, scope, name, body, settings, precondition),
        headers=lambda made: {"Location": f"/v1/operations/{made.operation}"},
    )


@router.post("/{name}/restart", status_code=202, response_model=Service)
async def restart_service(
    name: Name, scope: Deployer, session: Session, request: Request, once: Once, precondition: Precondition
) -> Response:
    """Have it run what it runs in new replicas, as a new revision. Location names the operation to follow."""
    settings = request.app.state.settings
    return await once.answer(
        session,
        202,
        lambda: updates.restart(session, scope, name, settings, precondition),
        headers=lambda made: {"Location": f"/v1/operations/{made.operation}"},
    )


@router.delete("/{name}", status_code=202)
async def delete_service(
    name: Name, scope: Deployer, session: Session, request: Request, response: Response, precondition: Precondition
) -> Operation:
    """Take it off the gateway and stop its replicas. Location names the operation to follow."""
    operation = await service.delete(session, scope, name, request.app.state.settings, precondition)
    response.headers["Location"] = f"/v1/operations/{operation.id}"
    return operation


@router.get("/{name}/logs", response_class=Response)
async def show_logs(
    name: Name,
    scope: Reader,
    request: Request,
    sessions: SessionFactory,
    *,
    tail: Annotated[int, Query(ge=0, le=100_000)] = DEFAULT_TAIL,
    follow: bool = False,
    replica: Annotated[str | None, Query(max_length=80)] = None,
    last_event_id: Annotated[str | None, Header(max_length=4096)] = None,
) -> Response:
    """What its replicas wrote: the last lines as text; with `follow=true` as server-sent events without end."""
    async with sessions() as session:
        row = await queries.service_named(session, scope.workspace_id, name)
        text = await logs.tail(session, row.id, replica=replica, lines=tail) if last_event_id is None else ""
        offsets = logs.parse_offsets(last_event_id) if last_event_id else await logs.ends(session, row.id)
    if not follow:
        return PlainTextResponse(text)
    first = [(logs.print_offsets(offsets), text)] if text else []

    async def look() -> tuple[sse.Pieces, bool]:
        pieces: sse.Pieces = first.copy()
        first.clear()
        async with sessions() as session:
            for replica_name, end, new in await logs.after(session, row.id, offsets, replica=replica):
                offsets[replica_name] = end
                pieces.append((logs.print_offsets(offsets), new))
        return pieces, False

    return sse.stream(request.app.state.bell, f"logs:{row.id}", look)


@router.get("/{name}/collected")
async def list_collected(
    name: Name,
    scope: Reader,
    session: Session,
    paging: Paging,
    *,
    day: Annotated[date | None, Query(description="only files whose first row is of this day (UTC)")] = None,
    designation: Annotated[str | None, Query(pattern=IDENTIFIER, description="such as inputs or predictions")] = None,
) -> Page[CollectedFile]:
    """Files of rows that its replicas collected, by path; also those that a deleted service of this name left."""
    after, limit = paging.after_text(), paging.limit + 1
    rows = await collected.list_files(session, scope, name, day=day, designation=designation, after=after, limit=limit)
    page = paging.page(rows, lambda row: row.path)
    return Page(items=[collected.contract(row) for row in page.items], next_page_token=page.next_page_token)


@router.get("/{name}/collected/{path:path}", response_class=Response)
async def download_collected(
    name: Name, path: str, scope: Reader, request: Request, sessions: SessionFactory
) -> Response:
    """The bytes of one file; Range and If-None-Match are honoured."""
    async with sessions() as session:
        file = await collected.stored_file(session, scope, name, path)
    return await file_response(request, request.app.state.blobs, file)


@router.delete("/{name}/collected")
async def delete_collected(
    name: Name,
    scope: Deployer,
    request: Request,
    sessions: SessionFactory,
    *,
    until: Annotated[date | None, Query(description="only files of days up to this one (UTC)")] = None,
) -> CollectedDeletion:
    """Delete what its replicas collected. To be called again until it is complete."""
    return await collected.delete_files(sessions, request.app.state.blobs, scope, name, until=until)
