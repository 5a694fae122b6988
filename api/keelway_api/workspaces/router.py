"""Workspaces."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from keelway.contracts.access import Role, Workspace, WorkspaceCreate, WorkspaceUpdate
from keelway.contracts.base import Page
from keelway_api.auth.dependencies import Admin, Caller, Reader, everywhere
from keelway_api.db import Session
from keelway_api.idempotency import Once
from keelway_api.pagination import Paging
from keelway_api.workspaces import service

router = APIRouter(tags=["workspaces"])


@router.post("/workspaces", status_code=201, response_model=Workspace, dependencies=[Depends(everywhere(Role.ADMIN))])
async def create_workspace(body: WorkspaceCreate, session: Session, caller: Caller, once: Once) -> Response:
    """Make a workspace."""
    return await once.answer(session, 201, lambda: service.create(session, caller, body))


@router.get("/workspaces")
async def list_workspaces(session: Session, caller: Caller, paging: Paging) -> Page[Workspace]:
    """The workspaces you may see, by name."""
    rows = await service.visible(session, caller, after=paging.after_text(), limit=paging.limit + 1)
    return paging.page(rows, lambda workspace: workspace.name)


@router.get("/workspaces/{workspace}")
async def show_workspace(scope: Reader, session: Session) -> Workspace:
    """One workspace."""
    return service.contract(await service.find(session, scope.workspace))


@router.patch("/workspaces/{workspace}")
async def update_workspace(body: WorkspaceUpdate, scope: Admin, session: Session) -> Workspace:
    """Describe a workspace otherwise, or change its policies."""
    return await service.change(session, scope.principal, scope.workspace, body)
