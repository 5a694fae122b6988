"""Models: versions are opened, filled, sealed, and never change after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.files import FileEntry
from keelway.contracts.models import (
    Model,
    ModelVersion,
    ModelVersionCreate,
    ModelVersionUpload,
    ResourceRequirements,
    VersionState,
)
from keelway_api import events
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import NotFound, WrongState
from keelway_api.manifests import service as manifests
from keelway_api.models import queries
from keelway_api.models.queries import VersionRow
from keelway_api.models.tables import ModelTable, ModelUseTable, ModelVersionTable


async def open_version(session: AsyncSession, scope: Scope, name: str, body: ModelVersionCreate) -> ModelVersionUpload:
    """A new version in state `uploading`, and where to send the bytes that are missing."""
    model = await _next_number(session, scope, name)
    manifest = await manifests.open_manifest(session, scope, body.files)
    version = ModelVersionTable(
        model_id=model.id,
        version=model.last_version,
        state=VersionState.UPLOADING,
        manifest_id=manifest.id,
        description=body.description,
        tags=body.tags,
        properties=body.properties,
        framework=body.framework,
        framework_version=body.framework_version,
        resource_requirements=_dump(body.resource_requirements),
        created_by=scope.principal.name,
    )
    session.add(version)
    await session.flush()
    await session.refresh(version)
    await audit.record(
        session, scope.principal, "model.version.open", _subject(name, version.version), workspace_id=scope.workspace_id
    )
    made = await contract(session, (version, model, manifest))
    return ModelVersionUpload(**made.model_dump(), missing=await manifests.missing_of(session, manifest.id))


async def _next_number(session: AsyncSession, scope: Scope, name: str) -> ModelTable:
    """The model with its counter raised; the row's lock makes concurrent registrations take different numbers."""
    statement = insert(ModelTable).values(
        workspace_id=scope.workspace_id, name=name, last_version=1, created_by=scope.principal.name
    )
    model = await session.scalar(
        statement.on_conflict_do_update(
            index_elements=["workspace_id", "name"], set_={"last_version": ModelTable.last_version + 1}
        ).returning(ModelTable),
        execution_options={"populate_existing": True},
    )
    assert model is not None
    return model


async def commit_version(sessions: Sessions, store: BlobStore, scope: Scope, name: str, number: str) -> ModelVersion:
    """Seal an upload: after this the version and its bytes never change. Committing twice is one commit.

    Raises NotFound, BlobsMissing, WrongState.
    """
    async with sessions() as session:
        version, _, manifest = await queries.version(session, scope.workspace_id, name, number)
    if version.state == VersionState.UPLOADING:
        await manifests.check_bytes(sessions, store, manifest.id, subject=f"{name}:{number}")
    async with sessions.begin() as session:
        return await _seal(session, scope, name, number)


async def _seal(session: AsyncSession, scope: Scope, name: str, number: str) -> ModelVersion:
    row = await queries.version(session, scope.workspace_id, name, number)
    version = row[0]
    await session.refresh(version, with_for_update=True)
    if version.state == VersionState.UPLOADING:
        version.state = VersionState.READY
        await manifests.seal(session, version.manifest_id)
        await session.flush()
        subject = _subject(name, version.version)
        await audit.record(session, scope.principal, "model.version.commit", subject, workspace_id=scope.workspace_id)
        await events.emit(
            session,
            "model.registered",
            workspace_id=scope.workspace_id,
            subject=subject,
            name=name,
            version=version.version,
            digest=row[2].digest,
        )
    elif version.state != VersionState.READY:
        raise WrongState(f"{name}:{number}", version.state, "an open upload")
    return await contract(session, row)


async def get_version(session: AsyncSession, scope: Scope, name: str, number: str) -> ModelVersionUpload:
    """One version with its files; while it is uploading also what is missing."""
    row = await queries.version(session, scope.workspace_id, name, number)
    missing = await manifests.missing_of(session, row[2].id) if row[0].state == VersionState.UPLOADING else []
    made = await contract(session, row)
    return ModelVersionUpload(**made.model_dump(), missing=missing)


async def list_versions(
    session: AsyncSession, scope: Scope, name: str, *, before: int | None, limit: int
) -> list[ModelVersion]:
    """Versions of one model, newest first, without their file lists. Raises NotFound."""
    rows = await queries.newest_versions(session, scope.workspace_id, name, before=before, limit=limit)
    if not rows and before is None:
        raise NotFound("model", name)
    return [_contract(row, files=[], used_by=[]) for row in rows]


async def get_model(session: AsyncSession, scope: Scope, name: str) -> Model:
    """One model with its latest ready version. Raises NotFound."""
    row = await queries.model(session, scope.workspace_id, name)
    latest = await queries.latest_of(session, scope.workspace_id, [row.id])
    return _model(row, latest.get(row.id))


async def list_models(
    session: AsyncSession, scope: Scope, *, name: str | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[tuple[tuple[datetime, str], Model]]:
    """Models, newest first, each with its paging key and its latest ready version."""
    rows = await queries.models(session, scope.workspace_id, name=name, before=before, limit=limit)
    latest = await queries.latest_of(session, scope.workspace_id, [row.id for row in rows])
    return [((row.created_at, str(row.id)), _model(row, latest.get(row.id))) for row in rows]


async def readable_files(session: AsyncSession, scope: Scope, name: str, number: str) -> VersionRow:
    """A version whose bytes may be read. Raises WrongState while it is uploading or damaged."""
    row = await queries.version(session, scope.workspace_id, name, number)
    if row[0].state != VersionState.READY:
        raise WrongState(f"{name}:{number}", row[0].state, "a ready version")
    return row


async def contract(session: AsyncSession, row: VersionRow) -> ModelVersion:
    """A version as it goes over the wire, with its files and the services that use it."""
    files = await manifests.files_of(session, row[2].id)
    return _contract(row, files=files, used_by=await _used_by(session, row))


async def find_version(session: AsyncSession, scope: Scope, reference: str) -> VersionRow:
    """The version behind `name:version`, in any state. Raises NotFound."""
    name, _, number = reference.rpartition(":")
    return await queries.version(session, scope.workspace_id, name, number)


async def require_ready(session: AsyncSession, scope: Scope, reference: str) -> VersionRow:
    """The ready version behind `name:version` (or `name:latest`). Raises NotFound, WrongState."""
    name, _, number = reference.rpartition(":")
    return await readable_files(session, scope, name, number)


async def add_use(session: AsyncSession, row: VersionRow, used_by: str) -> None:
    """Something refers to this version now: it may not be deleted."""
    await session.execute(insert(ModelUseTable).values(version_id=row[0].id, used_by=used_by).on_conflict_do_nothing())


async def drop_uses(session: AsyncSession, workspace_id: UUID, used_by: str) -> None:
    """Something refers to no version any more."""
    ours = queries.versions_in(workspace_id).with_only_columns(ModelVersionTable.id)
    await session.execute(
        delete(ModelUseTable).where(ModelUseTable.used_by == used_by, ModelUseTable.version_id.in_(ours))
    )


async def _used_by(session: AsyncSession, row: VersionRow) -> list[str]:
    wanted = select(ModelUseTable.used_by).where(ModelUseTable.version_id == row[0].id)
    return list(await session.scalars(wanted.order_by(ModelUseTable.used_by)))


def _contract(row: VersionRow, *, files: Sequence[FileEntry], used_by: list[str]) -> ModelVersion:
    version, model, manifest = row
    requirements = version.resource_requirements
    return ModelVersion(
        id=f"{model.name}:{version.version}",
        name=model.name,
        version=version.version,
        state=VersionState(version.state),
        description=version.description,
        tags=version.tags,
        properties=version.properties,
        framework=version.framework,
        framework_version=version.framework_version,
        resource_requirements=ResourceRequirements(**requirements) if requirements else None,
        files=list(files),
        size_bytes=manifest.size_bytes,
        digest=manifest.digest,
        used_by=used_by,
        created_at=version.created_at,
        created_by=version.created_by,
        etag=f'"{version.row_version}"',
    )


def _model(row: ModelTable, latest: VersionRow | None) -> Model:
    shown = _contract(latest, files=[], used_by=[]) if latest else None
    return Model(name=row.name, created_at=row.created_at, latest=shown)


def _dump(requirements: ResourceRequirements | None) -> dict[str, Any] | None:
    return requirements.model_dump(exclude_none=True) if requirements else None


def _subject(name: str, version: int) -> str:
    return f"models/{name}/versions/{version}"
