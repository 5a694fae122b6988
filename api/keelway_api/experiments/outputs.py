"""What a run leaves: files sent by manifest and blobs, as those of a model version are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.experiments import OutputsCreate, OutputsState, OutputsUpload
from keelway.contracts.files import MAX_FILES, FileEntry, ManifestFile, checked_manifest
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import OutputConflict
from keelway_api.experiments import queries
from keelway_api.experiments.queries import RunRow
from keelway_api.experiments.service import require_running, subject_of
from keelway_api.experiments.tables import RunOutputsTable
from keelway_api.manifests import service as manifests
from keelway_api.manifests.opening import open_manifest
from keelway_api.manifests.tables import ManifestTable

Files = Sequence[FileEntry | ManifestFile]


async def open_upload(
    session: AsyncSession, scope: Scope, experiment: str, name: str, body: OutputsCreate
) -> OutputsUpload:
    """Files that are to become outputs, and where to send the bytes that are missing.

    Raises NotFound, WrongState once the run has ended, OutputConflict.
    """
    row = await queries.run(session, scope.workspace_id, experiment, name)
    require_running(row)
    await _check(session, row, body.files)
    manifest = await open_manifest(session, scope, body.files)
    outputs = RunOutputsTable(
        run_id=row[0].id, manifest_id=manifest.id, state=OutputsState.UPLOADING, created_by=scope.principal.name
    )
    session.add(outputs)
    await session.flush()
    await session.refresh(outputs)
    subject = subject_of(experiment, name)
    await audit.record(session, scope.principal, "run.outputs.open", subject, workspace_id=scope.workspace_id)
    return await _contract(session, row, outputs, manifest)


async def commit_upload(
    sessions: Sessions, store: BlobStore, scope: Scope, experiment: str, name: str, upload_id: UUID
) -> OutputsUpload:
    """Make the files outputs once all bytes are there. Committing twice is one commit.

    Raises NotFound, BlobsMissing, WrongState once the run has ended, OutputConflict.
    """
    async with sessions() as session:
        run, _, _ = await queries.run(session, scope.workspace_id, experiment, name)
        outputs, manifest = await queries.upload(session, run.id, upload_id)
    if outputs.state == OutputsState.UPLOADING:
        await manifests.check_bytes(sessions, store, manifest.id, subject=f"upload {upload_id}")
    async with sessions.begin() as session:
        row = await queries.run(session, scope.workspace_id, experiment, name, is_locked=True)
        outputs, manifest = await queries.upload(session, row[0].id, upload_id, is_locked=True)
        if outputs.state == OutputsState.UPLOADING:
            await _seal(session, scope, row, outputs)
        return await _contract(session, row, outputs, manifest)


async def _seal(session: AsyncSession, scope: Scope, row: RunRow, outputs: RunOutputsTable) -> None:
    require_running(row)
    await _check(session, row, await manifests.files_of(session, outputs.manifest_id))
    outputs.state = OutputsState.READY
    await manifests.seal(session, outputs.manifest_id)
    await session.flush()
    subject = subject_of(row[1], row[0].name)
    await audit.record(session, scope.principal, "run.outputs.commit", subject, workspace_id=scope.workspace_id)


async def _check(session: AsyncSession, row: RunRow, files: Files) -> None:
    """New files and those that are there can live side by side: any folder of them may become a model."""
    there = {file.path: file.sha256 for file in await queries.outputs(session, row[0].id)}
    if different := sorted(file.path for file in files if there.get(file.path, file.sha256) != file.sha256):
        raise OutputConflict(f"{different[0]!r} is there already with other bytes", different)
    paths = {*there, *(file.path for file in files)}
    if len(paths) > MAX_FILES:
        raise OutputConflict(f"a run has at most {MAX_FILES} outputs", [])
    try:
        checked_manifest([ManifestFile.model_construct(path=path) for path in sorted(paths)])
    except ValueError as error:
        raise OutputConflict(str(error), []) from error


async def list_outputs(session: AsyncSession, scope: Scope, experiment: str, name: str) -> list[FileEntry]:
    """All files that the run left, by path. Raises NotFound."""
    run, _, _ = await queries.run(session, scope.workspace_id, experiment, name)
    return await queries.outputs(session, run.id)


async def _contract(
    session: AsyncSession, row: RunRow, outputs: RunOutputsTable, manifest: ManifestTable
) -> OutputsUpload:
    is_open = outputs.state == OutputsState.UPLOADING
    return OutputsUpload(
        id=str(outputs.id),
        run=f"{row[1]}/{row[0].name}",
        state=OutputsState(outputs.state),
        size_bytes=manifest.size_bytes,
        missing=await manifests.missing_of(session, manifest.id) if is_open else [],
        created_at=outputs.created_at,
        created_by=outputs.created_by,
    )


async def expire_uploads(session: AsyncSession, age: timedelta) -> int:
    """Remove outputs whose upload nobody went on with for so long."""
    return await manifests.give_up(session, RunOutputsTable, RunOutputsTable.state == OutputsState.UPLOADING, age)


async def used_by(session: AsyncSession, digests: Sequence[str]) -> dict[str, list[str]]:
    """'workspace/experiment/run path' of every output, by the digest of its bytes."""
    found: dict[str, list[str]] = {}
    for sha256, file in await queries.outputs_with(session, digests) if digests else ():
        found.setdefault(sha256, []).append(file)
    return found
