"""Models, versions and their files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from keelway.contracts.base import MODEL_NAME, Page
from keelway.contracts.files import MAX_PATH, FileEntry, FileLinks
from keelway.contracts.models import (
    Model,
    ModelVersion,
    ModelVersionCreate,
    ModelVersionUpdate,
    ModelVersionUpload,
    Verification,
)
from keelway.contracts.signatures import BUNDLE_MEDIA_TYPE
from keelway_api import documents
from keelway_api.auth.dependencies import Contributor, Deployer, Reader
from keelway_api.blobs.answers import archive_response, file_response, knows
from keelway_api.blobs.links import Offset, file_links
from keelway_api.db import Session, SessionFactory
from keelway_api.idempotency import Once
from keelway_api.manifests import service as manifests
from keelway_api.manifests.opening import check_sizes
from keelway_api.models import changes, form, listing, opening, queries, service, signatures, verification
from keelway_api.models.listing import Filtered
from keelway_api.models.pages import KeptPage, ListRoute
from keelway_api.pagination import Paging
from keelway_api.preconditions import Precondition
from keelway_api.statements import HotStatements

router = APIRouter(prefix="/workspaces/{workspace}", tags=["models"])
lists = APIRouter(route_class=ListRoute)
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "about": {
                            "type": "string",
                            "description": "JSON: the fields of ModelVersionCreate but its files",
                        },
                    },
                }
            }
        },
    }
}
BUNDLE = {"requestBody": {"required": True, "content": {BUNDLE_MEDIA_TYPE: {"schema": {"type": "object"}}}}}
Name = Annotated[str, Path(pattern=MODEL_NAME)]


@lists.get("/models", response_model=Page[Model])
async def list_models(
    scope: Reader, statements: HotStatements, place: KeptPage, paging: Paging, query: Filtered
) -> Response:
    """Models, newest first, each with its latest ready version; filters are about that version."""
    return await listing.models(statements, place, scope.workspace_id, query, paging)


@lists.get("/model-versions", response_model=Page[ModelVersion])
async def list_all_versions(
    scope: Reader, statements: HotStatements, place: KeptPage, paging: Paging, query: Filtered
) -> Response:
    """Versions of all models, newest first, without files and samples."""
    return await listing.versions(statements, place, scope.workspace_id, query, paging)


@router.get("/models/{name}", response_model=Model)
async def show_model(name: Name, scope: Reader, statements: HotStatements) -> Response:
    """One model, with its latest ready version."""
    return await listing.model(statements, scope.workspace_id, name)


@router.delete("/models/{name}", status_code=204)
async def delete_model(name: Name, scope: Contributor, session: Session) -> None:
    """Delete a model with all its versions, unless something uses one; its numbers are never given again."""
    await changes.delete_model(session, scope, name)


@router.post("/models/{name}/versions", status_code=201, response_model=ModelVersionUpload)
async def open_version(
    name: Name,
    body: ModelVersionCreate,
    scope: Contributor,
    request: Request,
    statements: HotStatements,
    sessions: SessionFactory,
    once: Once,
) -> Response:
    """Open a version: the answer says where to PUT each blob that is missing."""
    check_sizes(body.files, request.app.state.settings.max_file_bytes)
    return await opening.answer(statements, sessions, scope, name, body, once)


@router.post("/models/{name}/versions:upload", status_code=201, openapi_extra=FORM)
async def upload_version(name: Name, scope: Contributor, request: Request) -> ModelVersion:
    """Register files in one request: parts `file`, named by their paths, and `about`, JSON of what is said of them."""
    return await form.register(request, scope, name)


@router.post("/models/{name}/versions/{version}/commit")
async def commit_version(
    name: Name, version: str, scope: Contributor, request: Request, sessions: SessionFactory
) -> ModelVersion:
    """Seal an upload once every blob is there."""
    return await service.commit_version(sessions, request.app.state.blobs, scope, name, version)


@lists.get("/models/{name}/versions", response_model=Page[ModelVersion])
async def list_versions(
    name: Name, scope: Reader, statements: HotStatements, place: KeptPage, paging: Paging
) -> Response:
    """Versions of a model, newest first, without files and samples."""
    return await listing.versions_of(statements, place, scope.workspace_id, name, paging)


@router.get("/models/{name}/versions/{version}", response_model=ModelVersionUpload)
async def show_version(name: Name, version: str, scope: Reader, statements: HotStatements) -> Response:
    """One version, with its files; while it is uploading also what is missing."""
    document, etag = await queries.shown(statements, scope.workspace_id, name, version)
    return documents.answer(document, etag=etag)


@router.patch("/models/{name}/versions/{version}")
async def update_version(
    name: Name,
    version: str,
    body: ModelVersionUpdate,
    scope: Contributor,
    session: Session,
    precondition: Precondition,
    response: Response,
) -> ModelVersion:
    """Change what is said of a version; If-Match is honoured. Its bytes never change, its properties only grow."""
    changed = await changes.update_version(session, scope, name, version, body, precondition)
    response.headers["ETag"] = changed.etag
    return changed


@router.delete("/models/{name}/versions/{version}", status_code=204)
async def delete_version(
    name: Name, version: str, scope: Contributor, session: Session, precondition: Precondition
) -> None:
    """Delete a version, unless a service or an alias uses it; its number is never given again."""
    await changes.delete_version(session, scope, name, version, precondition)


@router.post("/models/{name}/versions/{version}/approve")
async def approve_version(name: Name, version: str, scope: Deployer, session: Session) -> ModelVersion:
    """Let a version be deployed that requires approval."""
    return await changes.approve(session, scope, name, version)


@router.put("/models/{name}/versions/{version}/signature", response_model=ModelVersion, openapi_extra=BUNDLE)
async def put_signature(
    name: Name,
    version: str,
    scope: Contributor,
    request: Request,
    sessions: SessionFactory,
    precondition: Precondition,
) -> Response:
    """Keep a sigstore bundle with a ready version, whose files it must name; it replaces one that is there.

    If-Match is honoured.
    """
    document, etag = await signatures.put(sessions, scope, name, version, await request.body(), precondition)
    return documents.answer(document, etag=etag)


@router.get(
    "/models/{name}/versions/{version}/signature",
    response_class=Response,
    responses={200: {"content": {BUNDLE_MEDIA_TYPE: {"schema": {"type": "object"}}}}},
)
async def show_signature(name: Name, version: str, scope: Reader, session: Session) -> Response:
    """The sigstore bundle of a version, as it was sent. Whose key signed it is for the reader to verify."""
    found = await signatures.bundle(session, scope, name, version)
    return Response(found, media_type=BUNDLE_MEDIA_TYPE)


@router.post("/models/{name}/versions/{version}/verify")
async def verify_version(
    name: Name,
    version: str,
    scope: Reader,
    request: Request,
    sessions: SessionFactory,
    after: Annotated[str, Query(max_length=MAX_PATH)] = "",
) -> Verification:
    """Read the stored bytes again, for a few seconds; pass `next_after` of the answer as `after` to go on."""
    return await verification.verify(sessions, request.app.state.blobs, scope, name, version, after=after)


@router.get("/models/{name}/versions/{version}/files")
async def list_files(name: Name, version: str, scope: Reader, session: Session) -> Page[FileEntry]:
    """The files of a version."""
    found = await queries.document(session, scope.workspace_id, name, version)
    return Page(items=found.files)


@router.get("/models/{name}/versions/{version}/files/{path:path}", response_class=Response)
async def download_file(
    name: Name, version: str, path: str, scope: Reader, request: Request, sessions: SessionFactory
) -> Response:
    """The bytes of one file; Range and If-None-Match are honoured."""
    file = await service.readable_file(sessions, scope, name, version, path)
    return await file_response(request, request.app.state.blobs, file)


@router.get("/models/{name}/versions/{version}/links/{path:path}")
async def link_file(
    name: Name,
    version: str,
    path: str,
    scope: Reader,
    request: Request,
    response: Response,
    sessions: SessionFactory,
    offset: Offset = 0,
) -> FileLinks:
    """Signed addresses of one file's parts in the object store, from `offset` on; none when clients reach no store."""
    file = await service.readable_file(sessions, scope, name, version, path)
    return await file_links(request.app.state.blobs, file, offset, response)


@router.get("/models/{name}/versions/{version}/archive", response_class=Response)
async def download_archive(
    name: Name, version: str, scope: Reader, request: Request, sessions: SessionFactory
) -> Response:
    """All files as one tar stream; If-None-Match is honoured."""
    async with sessions() as session:
        number, _, manifest = await service.readable_files(session, scope, name, version)
        etag = f'"{manifest.digest}"'
        if knows(request, etag):
            return Response(status_code=304, headers={"ETag": etag})
        files = await manifests.stored_files(session, manifest.id)
    await manifests.check_digest(manifest.digest, files)
    filename = f"{name}-{number.version}.tar"
    return archive_response(request.app.state.blobs, files, name=filename, etag=etag)


router.include_router(lists)
