"""Versions of files that are stored already: ready at once, without a byte sent."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.files import FileEntry, ManifestFile
from keelway.contracts.models import ModelVersion, ModelVersionCreate, VersionAbout
from keelway_api.auth.dependencies import Scope
from keelway_api.errors import BlobsMissing
from keelway_api.models import opening, queries, service


async def register(
    session: AsyncSession, scope: Scope, name: str, files: Sequence[FileEntry], about: VersionAbout, *, run: str
) -> ModelVersion:
    """A ready version of files that the caller may read, made of the outputs of `run`.

    Raises BlobsMissing for files whose bytes are damaged.
    """
    listed = [ManifestFile(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256) for file in files]
    said = {field: getattr(about, field) for field in VersionAbout.model_fields}
    opened = await opening.open_version(session, scope, name, ModelVersionCreate(files=listed, **said))
    if opened.missing:
        raise BlobsMissing(f"run {run}", [file.path for file in opened.missing])
    row = await queries.version(session, scope.workspace_id, name, str(opened.version), lock="change")
    row[0].run = run
    await service.seal(session, scope, row)
    return await queries.document(session, scope.workspace_id, name, str(opened.version))
