"""Operations: for people to follow, for workers to claim and report."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import PlainTextResponse, Response

from keelway.contracts.access import Role
from keelway.contracts.base import Page
from keelway.contracts.operations import (
    Claim,
    ClaimRequest,
    Heartbeat,
    HeartbeatRequest,
    Operation,
    OperationState,
    Report,
)
from keelway_api import sse
from keelway_api.auth.dependencies import Caller, everywhere
from keelway_api.bell import Bell
from keelway_api.db import Session, SessionFactory
from keelway_api.errors import Forbidden
from keelway_api.operations import logs, service
from keelway_api.operations.kinds import KINDS
from keelway_api.pagination import Paging

router = APIRouter(prefix="/operations", tags=["operations"])
workers = Depends(everywhere(Role.WORKER))
WaitS = Annotated[float, Query(ge=0, le=60)]


@router.get("")
async def list_operations(
    session: Session,
    caller: Caller,
    paging: Paging,
    workspace: str | None = None,
    state: Annotated[list[OperationState] | None, Query()] = None,
    subject: str | None = None,
) -> Page[Operation]:
    """Operations you may see, newest first."""
    cursor = paging.after(UUID)
    rows = await service.newest(
        session,
        caller,
        workspace=workspace,
        states=state or [],
        subject=subject,
        before=cursor[0] if cursor else None,
        limit=paging.limit + 1,
    )
    return paging.page(rows, lambda operation: operation.id)


@router.get("/{operation_id}")
async def show_operation(
    operation_id: UUID,
    request: Request,
    sessions: SessionFactory,
    caller: Caller,
    *,
    wait_s: WaitS = 0,
    seen: Annotated[str | None, Query(max_length=64)] = None,
) -> Operation:
    """One operation; with `wait_s` once it has ended or its etag differs from `seen`, or after that time.

    Without `seen` the wait is for a change from what it is when the request comes.
    """
    last: list[Operation] = []

    async def look() -> Operation | None:
        async with sessions() as session:
            last.append(await service.contract(session, await service.find(session, caller, operation_id)))
        now = last[-1]
        return now if now.state.is_terminal or now.etag != (seen or last[0].etag) else None

    bell: Bell = request.app.state.bell
    return await bell.until(f"operation:{operation_id}", wait_s, look) or last[-1]


@router.post("/{operation_id}/cancel", status_code=202)
async def cancel_operation(operation_id: UUID, session: Session, caller: Caller) -> Operation:
    """Ask for its end: a worker that runs it stops within seconds."""
    row = await service.find(session, caller, operation_id)
    role = KINDS[row.kind].role
    if not caller.may(role, row.workspace_id):
        raise Forbidden(f"This needs the role {role}.")
    return await service.cancel(session, caller, operation_id)


@router.get("/{operation_id}/logs", response_class=Response)
async def show_logs(
    operation_id: UUID,
    request: Request,
    sessions: SessionFactory,
    caller: Caller,
    *,
    follow: bool = False,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
) -> Response:
    """What it wrote: as text, or with `follow=true` as server-sent events that end when it ends."""
    async with sessions() as session:
        await service.find(session, caller, operation_id)
    if not follow:
        return PlainTextResponse(await logs.whole(sessions, request.app.state.blobs, operation_id))
    offset = last_event_id

    async def look() -> tuple[sse.Pieces, bool]:
        nonlocal offset
        pieces, is_over = await logs.news(sessions, request.app.state.blobs, operation_id, offset)
        offset = pieces[-1][0] if pieces else offset
        return [(str(end), text) for end, text in pieces], is_over

    return sse.stream(request.app.state.bell, f"operation:{operation_id}", look)


@router.post("/{operation_id}/claim", dependencies=[workers])
async def claim_operation(operation_id: UUID, body: ClaimRequest, session: Session, request: Request) -> Claim:
    """For workers: the right to work on it."""
    return await service.claim(session, operation_id, body, request.app.state.settings)


@router.post("/{operation_id}/heartbeat", dependencies=[workers])
async def heartbeat_operation(
    operation_id: UUID, body: HeartbeatRequest, session: Session, request: Request
) -> Heartbeat:
    """For workers: renew the lease."""
    return await service.heartbeat(session, operation_id, body.epoch, request.app.state.settings)


@router.post("/{operation_id}/reports", dependencies=[workers])
async def report_operation(operation_id: UUID, body: Report, session: Session) -> Operation:
    """For workers: progress, or the end."""
    return await service.report(session, operation_id, body)
