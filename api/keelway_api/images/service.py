"""Images of environments: what a build makes, and where its files are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Role
from keelway.contracts.images import Archive, Image, ImageResult, KnownImage, SealFiles, StoreFiles
from keelway.contracts.operations import OperationKind, OperationState
from keelway.contracts.services import BuildSpec, ContainerImage
from keelway.contracts.snapshots import Snapshot, SnapshotCreate, SnapshotUpload
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.auth.principal import Principal
from keelway_api.blobs.objects import StoredFile
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.environments import service as environments
from keelway_api.environments.tables import EnvironmentTable, EnvironmentVersionTable
from keelway_api.errors import InUse, NotFound
from keelway_api.images.tables import ImageTable
from keelway_api.manifests import service as manifests
from keelway_api.operations import kinds
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.snapshots import service as snapshots
from keelway_api.snapshots.tables import SnapshotTable
from keelway_api.workspaces import service as workspaces

Row = tuple[ImageTable, EnvironmentVersionTable, EnvironmentTable]


async def list_images(
    session: AsyncSession, scope: Scope, *, environment: str | None, before: UUID | None, limit: int
) -> list[tuple[UUID, Image]]:
    """Images with their ids, newest first; with `environment` those with the lock of one of its versions."""
    wanted = _images(scope.workspace_id).order_by(ImageTable.id.desc()).limit(limit)
    if environment is not None:
        wanted = wanted.where(EnvironmentVersionTable.lock_digest.in_(_locks(scope.workspace_id, environment)))
    if before is not None:
        wanted = wanted.where(ImageTable.id < before)
    return [(row[0].id, contract(row)) for row in (await session.execute(wanted)).tuples()]


async def get_row(session: AsyncSession, workspace_id: UUID, identity: str) -> Row:
    """One image. Raises NotFound."""
    wanted = _images(workspace_id).where(ImageTable.identity == identity)
    row = (await session.execute(wanted)).tuples().first()
    if row is None:
        raise NotFound("image", identity)
    return row


async def delete(session: AsyncSession, scope: Scope, identity: str, used_by: Sequence[str]) -> None:
    """Forget it, and remove its files where nothing else has them. What engines and registries have stays.

    `used_by` is who needs it still. Raises NotFound, InUse.
    """
    image = (await get_row(session, scope.workspace_id, identity))[0]
    if used_by:
        raise InUse(f"image {identity[:12]}", used_by)
    try:
        async with session.begin_nested():
            await session.execute(sql_delete(ImageTable).where(ImageTable.id == image.id))
    except IntegrityError:
        raise InUse(f"image {identity[:12]}", ["a service that was just deployed"]) from None
    await audit.record(session, scope.principal, "image.delete", f"images/{identity}", workspace_id=scope.workspace_id)
    await snapshots.release(session, image.snapshot_id)


async def stored_files(session: AsyncSession, row: Row, *, path: str | None = None) -> list[StoredFile]:
    """Its files in the OCI layout, or one of them. Raises CorruptBytes."""
    snapshot = await session.get_one(SnapshotTable, row[0].snapshot_id)
    return await manifests.stored_files(session, snapshot.manifest_id, path=path)


async def known(session: AsyncSession, operation_id: UUID, identity: str) -> KnownImage:
    """For a worker: the image of this identity in its operation's workspace. Raises NotFound."""
    operation = await session.get(OperationTable, operation_id)
    if operation is None:
        raise NotFound("operation", str(operation_id))
    row = await get_row(session, operation.workspace_id, identity)
    snapshot = await session.get_one(SnapshotTable, row[0].snapshot_id)
    result = ImageResult(
        **contract(row).model_dump(exclude={"environment", "created_at", "created_by"}), files=snapshot.digest
    )
    return KnownImage(result=result, files=await manifests.files_of(session, snapshot.manifest_id))


async def open_files(
    session: AsyncSession, principal: Principal, operation_id: UUID, body: StoreFiles
) -> SnapshotUpload:
    """Open an upload of what an operation made. Raises StaleAttempt."""
    scope = await _scope(session, principal, operation_id, body.epoch)
    return await snapshots.open_snapshot(session, scope, SnapshotCreate(files=body.files))


async def seal_files(
    sessions: Sessions, store: BlobStore, principal: Principal, operation_id: UUID, digest: str, body: SealFiles
) -> Snapshot:
    """Seal such an upload. Raises StaleAttempt, NotFound, BlobsMissing."""
    async with sessions.begin() as session:
        scope = await _scope(session, principal, operation_id, body.epoch)
    return await snapshots.commit_snapshot(sessions, store, scope, digest)


async def _scope(session: AsyncSession, principal: Principal, operation_id: UUID, epoch: int) -> Scope:
    """The operation's workspace, where its worker may read what it was given and write what it made."""
    operation = await operations.require_attempt(session, operation_id, epoch)
    names = await workspaces.names_of(session, [operation.workspace_id])
    grants = (*principal.grants, (Role.CONTRIBUTOR, operation.workspace_id))
    there = Principal(principal.token_id, principal.name, grants)
    return Scope(operation.workspace_id, names[operation.workspace_id], there)


def contract(row: Row) -> Image:
    """An image as it goes over the wire."""
    image, version, environment = row
    return Image(
        identity=image.identity,
        environment=f"{environment.name}:{version.version}",
        name=image.name,
        image_id=image.image_id,
        base_image=image.base_image,
        base_id=image.base_id,
        python_version=image.python_version,
        size_bytes=image.size_bytes,
        archive=Archive(sha256=image.archive_sha256, size_bytes=image.archive_size_bytes),
        pushed=image.pushed,
        created_at=image.created_at,
        created_by=image.created_by,
    )


def _locks(workspace_id: UUID, environment: str) -> Select[str]:
    """The locks of an environment's versions. Images are shared by all that have the same one, whatever their name."""
    return (
        select(EnvironmentVersionTable.lock_digest)
        .join(EnvironmentTable, EnvironmentTable.id == EnvironmentVersionTable.environment_id)
        .where(EnvironmentTable.name == environment)
        .where(or_(EnvironmentTable.workspace_id == workspace_id, EnvironmentTable.workspace_id.is_(None)))
    )


def _images(workspace_id: UUID) -> Select[ImageTable, EnvironmentVersionTable, EnvironmentTable]:
    return (
        select(ImageTable, EnvironmentVersionTable, EnvironmentTable)
        .join(EnvironmentVersionTable, EnvironmentVersionTable.id == ImageTable.environment_version_id)
        .join(EnvironmentTable, EnvironmentTable.id == EnvironmentVersionTable.environment_id)
        .where(ImageTable.workspace_id == workspace_id)
    )


async def _expand_build(session: AsyncSession, operation: OperationTable) -> dict[str, Any]:
    version_id = UUID(operation.spec["environment_version_id"])
    if operation.spec.get("target") != "docker":
        return BuildSpec(environment=await environments.spec_of(session, version_id)).model_dump(mode="json")
    spec = BuildSpec(
        environment=await environments.image_spec_of(session, version_id),
        base=await environments.base_of(session, version_id),
    )
    return spec.model_dump(mode="json")


async def _build_ended(session: AsyncSession, operation: OperationTable) -> None:
    if operation.state == OperationState.SUCCEEDED and operation.spec.get("target") == "docker":
        await note(session, operation, ImageResult.model_validate(operation.result))


async def note(session: AsyncSession, operation: OperationTable, found: ImageResult) -> UUID:
    """Keep what a worker says of an image; one that was known is noted again, with where it was pushed to. Its id.

    Raises NotFound when somebody deleted a known one meanwhile: it is built anew when the attempt's lease has run out.
    """
    scope = await workspaces.own_scope(session, operation.workspace_id)
    snapshot = await snapshots.require_ready(session, scope, found.files)
    values = {
        **found.model_dump(exclude={"files", "archive"}),
        "snapshot_id": snapshot.id,
        "archive_sha256": found.archive.sha256,
        "archive_size_bytes": found.archive.size_bytes,
    }
    scoped = (ImageTable.workspace_id == operation.workspace_id, ImageTable.identity == found.identity)
    before = await session.scalar(select(ImageTable.snapshot_id).where(*scoped).with_for_update())
    row = insert(ImageTable).values(
        workspace_id=operation.workspace_id,
        environment_version_id=UUID(operation.spec["environment_version_id"]),
        created_by=operation.created_by,
        **values,
    )
    noted = row.on_conflict_do_update(index_elements=["workspace_id", "identity"], set_=values)
    image_id = (await session.execute(noted.returning(ImageTable.id))).scalar_one()
    if before is not None and before != snapshot.id:
        await snapshots.release(session, before)
    return image_id


async def container_image(session: AsyncSession, image_id: UUID) -> ContainerImage:
    """What a node needs to run containers of it."""
    image = await session.get_one(ImageTable, image_id)
    return ContainerImage(
        identity=image.identity,
        name=image.name,
        image_id=image.image_id,
        files=await snapshots.files_of(session, image.snapshot_id),
    )


kinds.register(OperationKind.BUILD, kinds.Kind(Role.CONTRIBUTOR, expand=_expand_build, ended=_build_ended))
