"""What may change about a version: what is said of it, its approval, and that it is there at all."""

from __future__ import annotations

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.models import ModelVersion, ModelVersionUpdate
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.db import batched
from keelway_api.errors import InUse
from keelway_api.manifests.tables import ManifestTable
from keelway_api.models import queries, service
from keelway_api.models.tables import ModelTable, ModelVersionTable
from keelway_api.preconditions import Precondition
from keelway_api.properties import grown


async def update_version(
    session: AsyncSession, scope: Scope, name: str, number: str, body: ModelVersionUpdate, precondition: Precondition
) -> ModelVersion:
    """Say something else of a version. Raises NotFound, PreconditionFailed, Immutable."""
    version, _, _ = await queries.version(session, scope.workspace_id, name, number, lock="change")
    precondition.check(etag(version))
    said = body.model_dump(exclude_unset=True)
    for field in ("description", "tags", "properties", "datasets"):
        if said.get(field, ...) is None:
            del said[field]
    if "properties" in said:
        subject = f"properties of {version.name}:{version.version}"
        said["properties"] = grown(subject, version.properties, said["properties"])
    changed = {field: value for field, value in said.items() if getattr(version, field) != value}
    if changed:
        for field, value in changed.items():
            setattr(version, field, value)
        version.updated_at = func.now()
        await session.flush()
        await service.record(session, scope, "model.version.update", version, fields=sorted(changed))
        await service.announce(session, "model.updated", version, fields=sorted(changed))
    return await queries.document(session, scope.workspace_id, name, str(version.version))


async def approve(session: AsyncSession, scope: Scope, name: str, number: str) -> ModelVersion:
    """Let a version be deployed. Approving twice is one approval. Raises NotFound, WrongState."""
    row = await queries.version(session, scope.workspace_id, name, number, lock="change")
    service.require_ready(row)
    version = row[0]
    if version.approved_at is None:
        version.approved_at, version.approved_by = func.now(), scope.principal.name
        await session.flush()
        await service.record(session, scope, "model.version.approve", version, digest=row[2].digest)
        await service.announce(session, "model.approved", version, digest=row[2].digest)
    return await queries.document(session, scope.workspace_id, name, str(version.version))


async def delete_version(
    session: AsyncSession, scope: Scope, name: str, number: str, precondition: Precondition
) -> None:
    """Remove a version; its bytes go later, its number is never given again. Raises NotFound, InUse."""
    version, _, _ = await queries.version(session, scope.workspace_id, name, number, lock="change")
    precondition.check(etag(version))
    if users := await queries.versions_in_use(session, [version.id]):
        raise InUse(f"{version.name}:{version.version}", users)
    await service.record(session, scope, "model.version.delete", version)
    await service.announce(session, "model.deleted", version)
    await _remove(session, [version])
    await service.find_latest(session, version.model_id)


async def delete_model(session: AsyncSession, scope: Scope, name: str) -> None:
    """Remove a model with all its versions; its counter stays. Raises NotFound, InUse."""
    model = await queries.model(session, scope.workspace_id, name, is_locked=True)
    wanted = select(ModelVersionTable).where(ModelVersionTable.model_id == model.id)
    wanted = wanted.order_by(ModelVersionTable.id).with_for_update()
    versions = list(await session.scalars(wanted))
    if users := await queries.versions_in_use(session, [version.id for version in versions]):
        raise InUse(name, users)
    for version in versions:
        await service.announce(session, "model.deleted", version)
    await _remove(session, versions)
    await session.execute(
        update(ModelTable).where(ModelTable.id == model.id).values(is_deleted=True, latest_version=None)
    )
    await audit.record(
        session,
        scope.principal,
        "model.delete",
        f"models/{name}",
        workspace_id=scope.workspace_id,
        versions=sorted(version.version for version in versions),
    )


async def _remove(session: AsyncSession, versions: list[ModelVersionTable]) -> None:
    await session.flush()
    for some in batched(versions):
        ids = [version.id for version in some]
        await session.execute(delete(ModelVersionTable).where(ModelVersionTable.id.in_(ids)))
        manifests = [version.manifest_id for version in some]
        await session.execute(delete(ManifestTable).where(ManifestTable.id.in_(manifests)))


def etag(version: ModelVersionTable) -> str:
    """The etag of a version as it is."""
    return f'"{version.row_version}"'
