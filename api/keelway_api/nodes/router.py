"""Nodes: registration, what should run, what runs, what it wrote and collected."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from keelway.contracts.access import Role
from keelway.contracts.base import SHA256, ModelName, Page
from keelway.contracts.collected import FileName, Identifier
from keelway.contracts.services import Node, NodeDesired, NodeObserved, NodeRegister, ReplicaLogs
from keelway_api.auth.dependencies import everywhere
from keelway_api.bell import Bell
from keelway_api.blobs.turns import Turns
from keelway_api.db import Session, SessionFactory
from keelway_api.nodes import service
from keelway_api.services import collected, logs, observation

router = APIRouter(prefix="/nodes", tags=["nodes"])
workers = Depends(everywhere(Role.WORKER))
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]


@router.get("", dependencies=[Depends(everywhere(Role.READER))])
async def list_nodes(session: Session, request: Request) -> Page[Node]:
    """All nodes by name."""
    return Page(items=await service.all_nodes(session, request.app.state.settings.node_away_s))


@router.put("/{name}", dependencies=[workers])
async def register_node(name: Name, body: NodeRegister, session: Session, request: Request) -> Node:
    """For nodes: here I am, and this is what I have."""
    return await service.register(session, name, body, request.app.state.settings.node_away_s)


@router.get("/{name}/desired", dependencies=[workers])
async def desired(
    name: Name,
    request: Request,
    sessions: SessionFactory,
    seen: int | None = None,
    wait_s: Annotated[float, Query(ge=0, le=60)] = 0,
) -> NodeDesired:
    """For nodes: what should run here, once its generation differs from `seen` or after `wait_s`."""

    async def look() -> NodeDesired | None:
        async with sessions() as session:
            if seen is not None and (await service.find(session, name)).generation == seen:
                return None
            return await observation.desired(session, name)

    bell: Bell = request.app.state.bell
    found = await bell.until(f"node:{name}", wait_s, look)
    if found is not None:
        return found
    async with sessions() as session:
        return await observation.desired(session, name)


@router.put("/{name}/observed", status_code=204, dependencies=[workers])
async def observed(name: Name, body: NodeObserved, sessions: SessionFactory, request: Request) -> None:
    """For nodes: what runs here. The node's heartbeat."""
    await observation.observed(sessions, name, body, request.app.state.settings)


@router.post("/{name}/logs", status_code=204, dependencies=[workers])
async def append_logs(name: Name, body: ReplicaLogs, session: Session) -> None:
    """For nodes: what the replicas wrote."""
    await logs.append(session, name, body.logs)


@router.put(
    "/{name}/replicas/{replica}/collected/{model}/{version}/{designation}/{file}",
    status_code=204,
    dependencies=[workers],
)
async def put_collected(
    name: Name,
    replica: Annotated[str, Path(max_length=80)],
    model: ModelName,
    version: Identifier,
    designation: Identifier,
    file: FileName,
    sha256: Annotated[str, Query(pattern=SHA256)],
    request: Request,
    sessions: SessionFactory,
) -> None:
    """For nodes: the bytes of a file of rows that a replica collected."""
    turns: Turns = request.app.state.turns
    async with turns.one():
        await collected.receive(
            sessions,
            request.app.state.blobs,
            node=name,
            replica=replica,
            place=collected.Place(model, version, designation, file),
            sha256=sha256,
            body=turns.watched(request.stream()),
        )
