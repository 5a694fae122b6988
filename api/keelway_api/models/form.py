"""A version in one request: files as `multipart/form-data`, for those who have nothing but curl."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from keelway.contracts.files import ManifestFile, MissingFile
from keelway.contracts.models import ModelVersion, ModelVersionCreate, VersionAbout
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.store import BlobStore
from keelway_api.blobs.turns import Turns
from keelway_api.db import Sessions
from keelway_api.errors import InvalidRequest, TooBusy, UploadTakenOver
from keelway_api.manifests import service as manifests
from keelway_api.manifests.opening import check_sizes
from keelway_api.models import opening, service

MAX_FILES = 1000
CHUNK_BYTES = 2**20
TAKEN_OVER_PAUSES_S = (0.2, 0.5, 1, 2, 4, 8)
FILE, ABOUT = "file", "about"


async def register(request: Request, scope: Scope, name: str) -> ModelVersion:
    """A ready version of the form's files; each is called what its part is called.

    Raises InvalidRequest, TooLarge, UploadStalled, TooBusy.
    """
    state = request.app.state
    turns: Turns = state.turns
    async with turns.one():
        watched = Request(request.scope, turns.heard(request.receive))
        try:
            async with watched.form(max_files=MAX_FILES, max_fields=1) as form:
                files = _files(form)
                body = _body(form, [await _entry(path, file) for path, file in files.items()])
                check_sizes(body.files, state.settings.max_file_bytes)
                return await _store(state.sessions, state.blobs, scope, name, body, files)
        except HTTPException as error:
            if type(error) is not HTTPException:  # ours, with an id of its own
                raise
            raise InvalidRequest("body", str(error.detail)) from error


async def _store(
    sessions: Sessions,
    store: BlobStore,
    scope: Scope,
    name: str,
    body: ModelVersionCreate,
    files: dict[str, UploadFile],
) -> ModelVersion:
    async with sessions.begin() as session:
        opened = await opening.open_version(session, scope, name, body)
    for missing in {file.sha256: file for file in opened.missing}.values():
        await _send(sessions, store, scope, missing, files[missing.path])
    return await service.commit_version(sessions, store, scope, name, str(opened.version))


async def _send(sessions: Sessions, store: BlobStore, scope: Scope, missing: MissingFile, file: UploadFile) -> None:
    """The same token may send the same bytes in another form at this moment: then theirs will do."""
    for pause_s in TAKEN_OVER_PAUSES_S:
        try:
            await manifests.receive(
                sessions,
                store,
                scope.principal,
                sha256=missing.sha256,
                body=_chunks(file),
                size_bytes=missing.size_bytes,
            )
        except UploadTakenOver:
            await anyio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (no secret)
        else:
            return
        async with sessions() as session:
            if (await manifests.progress(session, scope.principal, missing.sha256, missing.size_bytes)).is_stored:
                return
    raise TooBusy("Others send the same bytes with the same token, again and again.")


def _files(form: FormData) -> dict[str, UploadFile]:
    if unknown := sorted(set(form.keys()) - {FILE, ABOUT}):
        raise InvalidRequest(f"body.{unknown[0]}", f"not a field of this form; known are {FILE} and {ABOUT}")
    files: dict[str, UploadFile] = {}
    for part in form.getlist(FILE):
        if not isinstance(part, UploadFile) or not part.filename:
            raise InvalidRequest(f"body.{FILE}", f"must be a file with a name: -F '{FILE}=@model.pkl'")
        if part.filename in files:
            raise InvalidRequest(f"body.{FILE}", f"{part.filename!r} is there twice")
        files[part.filename] = part
    return files


def _body(form: FormData, files: list[ManifestFile]) -> ModelVersionCreate:
    about = form.get(ABOUT, "{}")
    try:
        said = VersionAbout.model_validate_json(about if isinstance(about, str) else "")
        return ModelVersionCreate(files=files, **{field: getattr(said, field) for field in said.model_fields_set})
    except ValidationError as error:
        errors = [{**part, "loc": ("body", *part["loc"])} for part in error.errors()]
        raise RequestValidationError(errors) from error


async def _entry(path: str, file: UploadFile) -> ManifestFile:
    digest, size_bytes = hashlib.sha256(), 0
    async for chunk in _chunks(file):
        await anyio.to_thread.run_sync(digest.update, chunk)
        size_bytes += len(chunk)
    try:
        return ManifestFile(path=path, size_bytes=size_bytes, sha256=digest.hexdigest())
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"body.{FILE}", f"{path!r}: {reason}") from error


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    await file.seek(0)
    while chunk := await file.read(CHUNK_BYTES):
        yield chunk
