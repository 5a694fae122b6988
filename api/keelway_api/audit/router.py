"""The audit log: of one workspace for its admins, of everything for those who are admin everywhere."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from keelway.contracts.access import AuditEntry, Role
from keelway.contracts.base import Page
from keelway_api.audit import queries
from keelway_api.auth.dependencies import Admin, everywhere
from keelway_api.db import Session
from keelway_api.pagination import Paging

router = APIRouter(tags=["access"])


@router.get("/workspaces/{workspace}/audit")
async def list_audit(scope: Admin, session: Session, paging: Paging) -> Page[AuditEntry]:
    """Who changed what in a workspace, newest first."""
    rows = await queries.entries(
        session, workspace_id=scope.workspace_id, before=paging.after_int(), limit=paging.limit + 1
    )
    return paging.page(rows, lambda entry: entry.id)


@router.get("/audit", dependencies=[Depends(everywhere(Role.ADMIN))])
async def list_whole_audit(session: Session, paging: Paging) -> Page[AuditEntry]:
    """Who changed what anywhere, newest first: also tokens, which belong to no workspace."""
    rows = await queries.entries(session, workspace_id=None, before=paging.after_int(), limit=paging.limit + 1)
    return paging.page(rows, lambda entry: entry.id)
