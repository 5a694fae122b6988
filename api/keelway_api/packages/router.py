"""Packages."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from keelway.contracts.base import MODEL_NAME, Page
from keelway.contracts.images import SBOM
from keelway.contracts.packages import ContainerRegistry, Package, PackageCreate
from keelway_api.auth.dependencies import Contributor, Reader
from keelway_api.blobs.answers import archive_response, file_response, knows
from keelway_api.db import Session, SessionFactory
from keelway_api.errors import NotFound
from keelway_api.idempotency import Once
from keelway_api.packages import service
from keelway_api.pagination import Paging

router = APIRouter(prefix="/workspaces/{workspace}/packages", tags=["packages"])
MODEL_VERSION = MODEL_NAME.removesuffix("$") + r":[0-9]{1,18}$"


@router.post("", status_code=202, response_model=Package)
async def create_package(
    body: PackageCreate, scope: Contributor, session: Session, request: Request, once: Once
) -> Response:
    """Have models packaged for use elsewhere. Location names the operation to follow."""
    settings = request.app.state.settings
    return await once.answer(
        session,
        202,
        lambda: service.create(session, scope, body, settings),
        headers=lambda made: {"Location": f"/v1/operations/{made.operation}"},
    )


@router.get("")
async def list_packages(
    scope: Reader,
    session: Session,
    paging: Paging,
    model: Annotated[str | None, Query(pattern=MODEL_VERSION, description="name:version")] = None,
) -> Page[Package]:
    """Packages, newest first; with `model` those that hold it."""
    cursor = paging.after(UUID)
    rows = await service.list_packages(
        session, scope, model=model, before=cursor[0] if cursor else None, limit=paging.limit + 1
    )
    return paging.page(rows, lambda package: package.id)


@router.get("/{package_id}")
async def show_package(package_id: UUID, scope: Reader, session: Session) -> Package:
    """One package."""
    return service.contract(await service.get_row(session, scope, package_id), scope.workspace)


@router.delete("/{package_id}", status_code=204, response_class=Response)
async def delete_package(package_id: UUID, scope: Contributor, session: Session) -> None:
    """Delete it and its files; an operation that still makes it is cancelled. Images elsewhere stay."""
    await service.delete(session, scope, package_id)


@router.get("/{package_id}/download", response_class=Response)
async def download_package(package_id: UUID, scope: Reader, request: Request, sessions: SessionFactory) -> Response:
    """Its files as a tar. That of an image is an OCI layout, which `docker load` reads too."""
    async with sessions() as session:
        row, files = await service.stored_files(session, scope, package_id)
    etag = f'"{row.archive_sha256}"'
    if knows(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    name = f"{row.image_name.rsplit('/', 1)[-1]}-{row.image_label}.tar"
    return archive_response(request.app.state.blobs, files, name=name, etag=etag)


@router.get("/{package_id}/sbom", response_class=Response)
async def show_sbom(package_id: UUID, scope: Reader, request: Request, sessions: SessionFactory) -> Response:
    """What is in it: the packages of its lock, as CycloneDX JSON."""
    async with sessions() as session:
        _, files = await service.stored_files(session, scope, package_id, path=SBOM)
    if not files:
        raise NotFound("file", SBOM)
    return await file_response(request, request.app.state.blobs, files[0])


@router.get("/{package_id}/registry")
async def show_registry(package_id: UUID, scope: Reader, session: Session, request: Request) -> ContainerRegistry:
    """Where its image can be had, and as whom; of a `dockerfile` package, where the image that it starts from can."""
    return await service.registry(session, scope, package_id, request.app.state.settings)
