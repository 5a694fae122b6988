"""Models: versions are opened, filled, sealed, and their bytes never change after."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.models import ModelVersion, VersionState
from keelway_api import events
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.objects import StoredFile
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import ApprovalNeeded, NotFound, WrongState
from keelway_api.inspections import policy
from keelway_api.inspections import service as inspections
from keelway_api.manifests import service as manifests
from keelway_api.models import queries
from keelway_api.models.tables import ModelTable, ModelUseTable, ModelVersionTable, VersionRow


async def commit_version(sessions: Sessions, store: BlobStore, scope: Scope, name: str, number: str) -> ModelVersion:
    """Seal an upload: after this the version's bytes never change. Committing twice is one commit.

    Raises NotFound, BlobsMissing, WrongState.
    """
    async with sessions() as session:
        version, _, manifest = await queries.version(session, scope.workspace_id, name, number)
    if version.state == VersionState.UPLOADING:
        await manifests.check_bytes(sessions, store, manifest.id, subject=f"{name}:{number}")
    async with sessions.begin() as session:
        row = await queries.version(session, scope.workspace_id, name, number, lock="change")
        if row[0].state == VersionState.UPLOADING:
            await seal(session, scope, row)
        elif row[0].state != VersionState.READY:
            raise WrongState(f"{name}:{number}", row[0].state, "an open upload")
        return await queries.document(session, scope.workspace_id, name, number)


async def seal(session: AsyncSession, scope: Scope, row: VersionRow) -> None:
    """The version is ready: whoever asks for the latest gets it from now on."""
    version, _, manifest = row
    version.state, version.updated_at = VersionState.READY, func.now()
    await manifests.seal(session, version.manifest_id)
    await session.flush()
    await find_latest(session, version.model_id)
    await record(session, scope, "model.version.commit", version)
    await announce(session, "model.registered", version, digest=manifest.digest)
    await inspections.begin(session, scope, version)


async def find_latest(session: AsyncSession, model_id: UUID) -> None:
    """Note again which ready version is the highest."""
    highest = select(func.max(ModelVersionTable.version)).where(
        ModelVersionTable.model_id == model_id, ModelVersionTable.state == VersionState.READY
    )
    await session.execute(
        update(ModelTable).where(ModelTable.id == model_id).values(latest_version=highest.scalar_subquery())
    )


async def readable_files(session: AsyncSession, scope: Scope, name: str, number: str) -> VersionRow:
    """A version whose bytes may be read. Raises WrongState while it is uploading or damaged."""
    row = await queries.version(session, scope.workspace_id, name, number)
    require_ready(row)
    return row


async def readable_file(sessions: Sessions, scope: Scope, name: str, number: str, path: str) -> StoredFile:
    """One file that may be read, and where its bytes lie. Raises NotFound, WrongState, CorruptBytes."""
    async with sessions() as session:
        row = await readable_files(session, scope, name, number)
        files = await manifests.stored_files(session, row[2].id, path=path)
    if not files:
        raise NotFound("file", path)
    return files[0]


async def find_version(session: AsyncSession, scope: Scope, reference: str) -> VersionRow:
    """The version behind `name:version`, in any state. Raises NotFound."""
    name, _, number = reference.rpartition(":")
    return await queries.version(session, scope.workspace_id, name, number)


async def require_deployable(session: AsyncSession, scope: Scope, reference: str) -> VersionRow:
    """The version behind `name:version` (or `:latest`, or an alias); it stays until this transaction ends.

    Raises NotFound, WrongState, ApprovalNeeded, UnsafeModel, NotInspected.
    """
    name, _, number = reference.rpartition(":")
    row = await used_version(session, scope, name, number)
    if row[0].requires_approval and row[0].approved_at is None:
        raise ApprovalNeeded(f"{name}:{row[0].version}")
    await policy.require_acceptable(session, row[0])
    return row


async def used_version(session: AsyncSession, scope: Scope, name: str, number: str) -> VersionRow:
    """A ready version that stays until this transaction ends. Raises NotFound, WrongState."""
    row = await queries.version(session, scope.workspace_id, name, number, lock="use")
    require_ready(row)
    return row


def require_ready(row: VersionRow) -> None:
    """Raises WrongState while a version is uploading or damaged."""
    if row[0].state != VersionState.READY:
        raise WrongState(f"{row[0].name}:{row[0].version}", row[0].state, "a ready version")


async def add_use(session: AsyncSession, row: VersionRow, used_by: str) -> None:
    """Something refers to this version now: it may not be deleted."""
    await session.execute(insert(ModelUseTable).values(version_id=row[0].id, used_by=used_by).on_conflict_do_nothing())


async def drop_uses(session: AsyncSession, workspace_id: UUID, used_by: str) -> None:
    """Something refers to no version any more."""
    ours = select(ModelVersionTable.id).where(ModelVersionTable.workspace_id == workspace_id)
    await session.execute(
        delete(ModelUseTable).where(ModelUseTable.used_by == used_by, ModelUseTable.version_id.in_(ours))
    )


async def record(session: AsyncSession, scope: Scope, action: str, version: ModelVersionTable, **detail: Any) -> None:
    """Add what was done to a version to the audit."""
    await audit.record(session, scope.principal, action, _subject(version), workspace_id=scope.workspace_id, **detail)


async def announce(session: AsyncSession, event: str, version: ModelVersionTable, **payload: Any) -> None:
    """Add what happened to a version to the events."""
    await events.emit(
        session,
        event,
        workspace_id=version.workspace_id,
        subject=_subject(version),
        name=version.name,
        version=version.version,
        **payload,
    )


def dumped(contract: BaseModel | None) -> dict[str, Any] | None:
    """A contract as a column keeps it."""
    return contract.model_dump(exclude_none=True) if contract else None


def _subject(version: ModelVersionTable) -> str:
    return f"models/{version.name}/versions/{version.version}"
