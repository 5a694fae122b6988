"""Services for workers: place replicas, watch them, send traffic."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from keelway.contracts.access import Role
from keelway.contracts.services import Activate, PlaceReplicas, ReplicaList
from keelway_api.auth.dependencies import Caller, everywhere
from keelway_api.bell import Bell
from keelway_api.db import Session, SessionFactory
from keelway_api.operations import service as operations
from keelway_api.services import deployment

router = APIRouter(prefix="/operations", tags=["operations"], dependencies=[Depends(everywhere(Role.WORKER))])


@router.post("/{operation_id}/replicas")
async def place_replicas(operation_id: UUID, body: PlaceReplicas, session: Session) -> ReplicaList:
    """For workers: the operation's replicas are wanted on this node."""
    return await deployment.place(session, operation_id, body)


@router.get("/{operation_id}/replicas")
async def watch_replicas(
    operation_id: UUID,
    request: Request,
    sessions: SessionFactory,
    caller: Caller,
    seen: str | None = None,
    wait_s: Annotated[float, Query(ge=0, le=60)] = 0,
) -> ReplicaList:
    """For workers: the operation's replicas, once they differ from `seen` or after `wait_s`."""
    last: list[ReplicaList] = []

    async def look() -> ReplicaList | None:
        async with sessions() as session:
            operation = await operations.find(session, caller, operation_id)
            last.append(await deployment.replicas(session, operation))
        return last[-1] if last[-1].seen != seen else None

    bell: Bell = request.app.state.bell
    async with sessions() as session:
        service_id = (await operations.find(session, caller, operation_id)).spec.get("service_id")
    return await bell.until(f"replicas:{service_id}", wait_s, look) or last[-1]


@router.post("/{operation_id}/activate", status_code=204)
async def activate(operation_id: UUID, body: Activate, session: Session) -> None:
    """For workers: send traffic to the operation's revision."""
    await deployment.activate(session, operation_id, body)
