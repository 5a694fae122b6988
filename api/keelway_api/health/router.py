"""Health, metrics, and the pages that explain the API and its problems."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from keelway.contracts.problems import PROBLEMS
from keelway_api.db import SessionFactory
from keelway_api.errors import NotFound
from keelway_api.health import service
from keelway_api.metrics import REGISTRY
from keelway_api.nodes import service as nodes

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, response: Response, sessions: SessionFactory) -> dict[str, Any]:
    """It can serve: Postgres answers, and workspace and tokens of the settings are there; 503 otherwise.

    Without the object store it serves all but bytes: `degraded`.
    """
    state = request.app.state
    found = await asyncio.gather(service.postgres(sessions), service.object_store(state.blobs))
    away = {name: wrong for name, wrong in zip(("postgres", "s3"), found, strict=True) if wrong}
    if "postgres" in away:
        response.status_code = 503
        return {"status": "away", "away": away}
    if not state.is_bootstrapped:
        response.status_code = 503
        return {"status": "starting"}
    return {"status": "degraded", "away": away} if away else {"status": "ok"}


@router.get("/statusz")
async def statusz(request: Request, sessions: SessionFactory) -> dict[str, Any]:
    """Everything at a glance: dependencies, processes, nodes, operations."""
    state = request.app.state
    names = ("postgres", "s3", "redis")
    found = await asyncio.gather(
        service.postgres(sessions), service.object_store(state.blobs), service.redis(state.celery)
    )
    status: dict[str, Any] = {
        "version": service.own_version(),
        "dependencies": {name: wrong or "ok" for name, wrong in zip(names, found, strict=True)},
        "processes": service.children(state.settings.status_file),
    }
    if found[0] is None:
        async with sessions() as session:
            status["operations"] = await service.operations_by_state(session)
            status["oldest_queued_s"] = await service.oldest_queued_s(session)
            away_s = state.settings.node_away_s
            status["nodes"] = {node.name: node.state for node in await nodes.all_nodes(session, away_s)}
    return status


@router.get("/metrics", response_class=Response)
async def metrics() -> Response:
    """Prometheus metrics of this process."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """The document of this API."""
    return request.app.openapi()


@router.get("/problems")
async def list_problems() -> dict[str, Any]:
    """Every type of problem this API answers with."""
    return {"items": [_page(name) for name in PROBLEMS]}


@router.get("/problems/{name}")
async def show_problem(name: str) -> dict[str, Any]:
    """What a type of problem means and what to do about it."""
    if name not in PROBLEMS:
        raise NotFound("problem type", name)
    return _page(name)


def _page(name: str) -> dict[str, Any]:
    kind = PROBLEMS[name]
    return {"type": f"/problems/{name}", "status": kind.status, "title": kind.title, "explanation": kind.explanation}
