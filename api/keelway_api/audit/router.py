"""The audit log of a workspace."""

from __future__ import annotations

from fastapi import APIRouter

from keelway.contracts.access import AuditEntry
from keelway.contracts.base import Page
from keelway_api.audit import service
from keelway_api.auth.dependencies import Admin
from keelway_api.db import Session
from keelway_api.pagination import Paging

router = APIRouter(tags=["access"])


@router.get("/workspaces/{workspace}/audit")
async def list_audit(scope: Admin, session: Session, paging: Paging) -> Page[AuditEntry]:
    """Who changed what, newest first."""
    before = paging.after_int()
    rows = await service.entries(session, scope.workspace_id, scope.workspace, before=before, limit=paging.limit + 1)
    return paging.page(rows, lambda entry: entry.id)
