"""Garbage collection and scrubbing on demand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime

from keelway.contracts.access import Role
from keelway.contracts.upkeep import GcReport, ScrubReport
from keelway_api.auth.dependencies import Caller, everywhere
from keelway_api.db import SessionFactory
from keelway_api.upkeep import service

router = APIRouter(tags=["upkeep"], dependencies=[Depends(everywhere(Role.ADMIN))])


@router.post("/gc")
async def gc(
    request: Request,
    sessions: SessionFactory,
    caller: Caller,
    dry_run: bool = False,
    grace_s: Annotated[float | None, Query(ge=0, le=10**9)] = None,
) -> GcReport:
    """Delete bytes that nothing has referred to for the grace period; what takes long goes on with the next call."""
    state = request.app.state
    upkeep = service.Upkeep(sessions, state.blobs, state.settings)
    return await upkeep.gc(caller, is_dry_run=dry_run, grace_s=grace_s)


@router.post("/scrub")
async def scrub(request: Request, sessions: SessionFactory, since: AwareDatetime | None = None) -> ScrubReport:
    """Read stored bytes again, oldest first, for a few seconds; pass `since` of the answer to go on."""
    state = request.app.state
    return await service.Upkeep(sessions, state.blobs, state.settings).scrub(since)
