"""What the gateway routes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from keelway.contracts.access import Role
from keelway_api.auth.dependencies import Caller
from keelway_api.bell import Bell
from keelway_api.db import SessionFactory
from keelway_api.errors import Forbidden
from keelway_api.gateway import service

router = APIRouter(prefix="/gateway", tags=["gateway"])


@router.get("/routes", response_model=dict[str, Any])
async def routes(
    request: Request,
    sessions: SessionFactory,
    caller: Caller,
    wait_s: Annotated[float, Query(ge=0, le=60)] = 0,
    if_none_match: Annotated[str | None, Header(max_length=256)] = None,
) -> Response:
    """Traefik's dynamic configuration, once it differs from If-None-Match; 304 when it did not within `wait_s`."""
    if not (caller.may(Role.GATEWAY, None) or caller.may(Role.ADMIN, None)):
        raise Forbidden("This needs the role gateway.")

    async def look() -> tuple[str, dict[str, Any]] | None:
        async with sessions() as session:
            found = await service.routes(session)
        return found if found[0] != if_none_match else None

    bell: Bell = request.app.state.bell
    found = await bell.until("gateway", wait_s, look)
    if found is None:
        return Response(status_code=304, headers={"ETag": if_none_match or ""})
    return JSONResponse(found[1], headers={"ETag": found[0]})
