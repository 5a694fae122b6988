"""Images."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from keelway.contracts.base import MODEL_NAME, SHA256, Page
from keelway.contracts.images import SBOM, Image
from keelway_api.auth.dependencies import Contributor, Reader
from keelway_api.blobs.answers import archive_response, file_response, knows
from keelway_api.db import Session, SessionFactory
from keelway_api.errors import NotFound
from keelway_api.images import service
from keelway_api.pagination import Paging
from keelway_api.services import service as services

router = APIRouter(prefix="/workspaces/{workspace}/images", tags=["images"])
Identity = Annotated[str, Path(pattern=SHA256)]


@router.get("")
async def list_images(
    scope: Reader,
    session: Session,
    paging: Paging,
    environment: Annotated[str | None, Query(pattern=MODEL_NAME)] = None,
) -> Page[Image]:
    """Images, newest first; with `environment` those with the lock of one of its versions."""
    cursor = paging.after(UUID)
    rows = await service.list_images(
        session, scope, environment=environment, before=cursor[0] if cursor else None, limit=paging.limit + 1
    )
    page = paging.page(rows, lambda row: str(row[0]))
    return Page[Image](items=[image for _, image in page.items], next_page_token=page.next_page_token)


@router.get("/{identity}")
async def show_image(identity: Identity, scope: Reader, session: Session) -> Image:
    """One image."""
    return service.contract(await service.get_row(session, scope.workspace_id, identity))


@router.delete("/{identity}", status_code=204, response_class=Response)
async def delete_image(identity: Identity, scope: Contributor, session: Session) -> None:
    """Delete it and its files; a build makes it again. What engines and registries have of it stays.

    One that a service runs in is refused.
    """
    await service.delete(session, scope, identity, await services.users_of_image(session, scope, identity))


@router.get("/{identity}/archive", response_class=Response)
async def download_image(identity: Identity, scope: Reader, request: Request, sessions: SessionFactory) -> Response:
    """The image as a tar: an OCI layout, which `docker load` reads too; If-None-Match is honoured."""
    async with sessions() as session:
        row = await service.get_row(session, scope.workspace_id, identity)
        etag = f'"{row[0].archive_sha256}"'
        if knows(request, etag):
            return Response(status_code=304, headers={"ETag": etag})
        files = await service.stored_files(session, row)
    name = f"{row[2].name}-{row[1].version}.tar"
    return archive_response(request.app.state.blobs, files, name=name, etag=etag)


@router.get("/{identity}/sbom", response_class=Response)
async def show_sbom(identity: Identity, scope: Reader, request: Request, sessions: SessionFactory) -> Response:
    """What is in it: the packages of its lock, as CycloneDX JSON."""
    async with sessions() as session:
        row = await service.get_row(session, scope.workspace_id, identity)
        files = await service.stored_files(session, row, path=SBOM)
    if not files:
        raise NotFound("file", SBOM)
    return await file_response(request, request.app.state.blobs, files[0])
