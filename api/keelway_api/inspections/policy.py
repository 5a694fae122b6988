"""What a workspace refuses to deploy. The only place where anything depends on a label."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import RefuseFindings
from keelway.contracts.safety import ORDER, Severity
from keelway_api.errors import NotInspected, UnsafeModel
from keelway_api.models.tables import ModelVersionTable
from keelway_api.workspaces.tables import WorkspaceTable


async def require_acceptable(session: AsyncSession, version: ModelVersionTable) -> None:
    """Raises UnsafeModel, or NotInspected, when the version's workspace has a policy and it is not met."""
    workspace = await session.get_one(WorkspaceTable, version.workspace_id, populate_existing=True)
    if workspace.refuse_findings == RefuseFindings.NONE:
        return
    subject = f"{version.name}:{version.version}"
    if version.safety is None:
        raise NotInspected(subject)
    refused = ORDER[: ORDER.index(Severity(workspace.refuse_findings)) + 1]
    findings: list[dict[str, Any]] = [one for one in version.safety["findings"] if one["severity"] in refused]
    if findings:
        raise UnsafeModel(subject, workspace.refuse_findings, findings)
