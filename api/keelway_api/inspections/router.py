"""Inspections: asked for by people, handed in by workers."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response

from keelway.contracts.access import Role
from keelway.contracts.base import MODEL_NAME
from keelway.contracts.operations import Operation
from keelway.contracts.safety import Inspections
from keelway_api.auth.dependencies import Contributor, everywhere
from keelway_api.db import Session
from keelway_api.idempotency import Once
from keelway_api.inspections import service
from keelway_api.models import service as models

router = APIRouter()
Name = Annotated[str, Path(pattern=MODEL_NAME)]


@router.post(
    "/workspaces/{workspace}/models/{name}/versions/{version}/inspect",
    status_code=202,
    response_model=Operation,
    tags=["models"],
)
async def inspect_version(name: Name, version: str, scope: Contributor, session: Session, once: Once) -> Response:
    """Look at the files of a version, also when they were looked at before; one that is under way is the answer."""

    async def begin() -> Operation:
        row = await models.used_version(session, scope, name, version)
        return await service.inspect(session, scope, row[0])

    return await once.answer(
        session, 202, begin, headers=lambda operation: {"Location": f"/v1/operations/{operation.id}"}
    )


@router.post(
    "/operations/{operation_id}/inspections",
    status_code=204,
    dependencies=[Depends(everywhere(Role.WORKER))],
    tags=["operations"],
)
async def hand_in(operation_id: UUID, body: Inspections, session: Session) -> None:
    """For workers: what some blobs of an `inspect` are."""
    await service.take_over(session, operation_id, body)
