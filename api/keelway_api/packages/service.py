"""Packages: asked for, made by an operation, handed out, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from keelway.contracts.access import Role
from keelway.contracts.images import Archive, named_registry
from keelway.contracts.operations import OperationError, OperationKind, OperationState
from keelway.contracts.packages import (
    ContainerRegistry,
    Package,
    PackageCreate,
    PackageKind,
    PackageResult,
    PackageSpec,
    PackageState,
)
from keelway.contracts.services import InferenceConfig
from keelway_api import events, inference
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.objects import StoredFile
from keelway_api.environments import service as environments
from keelway_api.environments.tables import EnvironmentVersionTable
from keelway_api.errors import AlreadyExists, InvalidRequest, NotFound, WrongState
from keelway_api.manifests import service as manifests
from keelway_api.models import service as models
from keelway_api.operations import kinds
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.packages.tables import PackageTable
from keelway_api.settings import ApiSettings
from keelway_api.snapshots import service as snapshots
from keelway_api.snapshots.tables import SnapshotTable
from keelway_api.workspaces import service as workspaces


async def create(session: AsyncSession, scope: Scope, body: PackageCreate, settings: ApiSettings) -> Package:
    """A new package and the operation that makes it.

    Raises what `inference.resolve` does, AlreadyExists when the image's name is taken, and InvalidRequest for variables
    that a Dockerfile cannot say.
    """
    used = await inference.resolve(session, scope, body.models, body.inference_config)
    _check_variables(used)
    row = await _insert(session, scope, body, used)
    await used.note_use(session, _subject(row))
    operation = await operations.submit(
        session,
        scope,
        OperationKind.PACKAGE,
        subject=_subject(row),
        spec={"package_id": str(row.id)},
        deadline_s=settings.operation_deadline_s,
    )
    row.operation_id = operation.id
    await session.flush()
    await _emit(session, row, "package.created", kind=row.kind, models=row.models)
    return contract(row, scope.workspace)


async def _insert(session: AsyncSession, scope: Scope, body: PackageCreate, used: inference.Inference) -> PackageTable:
    made = uuid7()
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    for label in [body.image_label] if body.image_label else [now, f"{now}-{made.hex[-8:]}"]:
        inserted = await session.scalar(
            insert(PackageTable)
            .values(
                id=made,
                workspace_id=scope.workspace_id,
                kind=body.kind,
                state=PackageState.CREATING,
                reason="",
                models=used.models,
                inference_config=used.exact_config,
                environment_version_id=used.environment[0].id,
                source_id=used.snapshot.id,
                image_name=body.image_name,
                image_label=label,
                created_by=scope.principal.name,
            )
            .on_conflict_do_nothing()
            .returning(PackageTable)
        )
        if inserted is not None:
            return inserted
    raise AlreadyExists("package", f"{body.image_name}:{body.image_label}")


def _check_variables(used: inference.Inference) -> None:
    version, _ = used.environment
    for name, value in version.definition.get("environment_variables", {}).items():
        if not value.isprintable():
            raise InvalidRequest(
                "body.inference_config.environment",
                f"the value of its variable {name} has a line break or another control character, which no Dockerfile "
                "can say; a package needs an environment without it",
            )


async def get_row(session: AsyncSession, scope: Scope, package_id: UUID) -> PackageTable:
    """One package. Raises NotFound."""
    row = await session.get(PackageTable, package_id)
    if row is None or row.workspace_id != scope.workspace_id:
        raise NotFound("package", str(package_id))
    return row


async def list_packages(
    session: AsyncSession, scope: Scope, *, model: str | None, before: UUID | None, limit: int
) -> Sequence[Package]:
    """Packages, newest first; with `model`, a `name:version`, those that hold it."""
    wanted = select(PackageTable).where(PackageTable.workspace_id == scope.workspace_id)
    if model is not None:
        wanted = wanted.where(PackageTable.models.contains([model]))
    if before is not None:
        wanted = wanted.where(PackageTable.id < before)
    rows = await session.scalars(wanted.order_by(PackageTable.id.desc()).limit(limit))
    return [contract(row, scope.workspace) for row in rows]


async def stored_files(
    session: AsyncSession, scope: Scope, package_id: UUID, *, path: str | None = None
) -> tuple[PackageTable, list[StoredFile]]:
    """A package with its files, or one of them. Raises NotFound, CorruptBytes, WrongState while it is not ready."""
    row = await get_row(session, scope, package_id)
    if row.snapshot_id is None:
        raise WrongState(f"package {package_id}", row.state, "a package that is ready")
    snapshot = await session.get_one(SnapshotTable, row.snapshot_id)
    return row, await manifests.stored_files(session, snapshot.manifest_id, path=path)


async def registry(session: AsyncSession, scope: Scope, package_id: UUID, settings: ApiSettings) -> ContainerRegistry:
    """Where its image, or the image that it starts from, can be had. Raises NotFound, WrongState."""
    row = await get_row(session, scope, package_id)
    if row.kind == PackageKind.IMAGE:
        return _operators_registry(row, settings)
    return await _base_registry(session, row)


def _operators_registry(row: PackageTable, settings: ApiSettings) -> ContainerRegistry:
    if row.pushed is None:
        raise WrongState(f"package {row.id}", row.state, "an image that was pushed to the operator's registry")
    password = settings.registry_pull_password
    return ContainerRegistry(
        address=named_registry(row.pushed),
        image=row.pushed,
        username=settings.registry_pull_username,
        password=password.get_secret_value() if password else None,
    )


async def _base_registry(session: AsyncSession, row: PackageTable) -> ContainerRegistry:
    if row.base_image is None:
        raise WrongState(f"package {row.id}", row.state, "a package that is ready")
    address = named_registry(row.base_image)
    version = await session.get_one(EnvironmentVersionTable, row.environment_version_id)
    known = version.definition.get("base_image_registry") or {}
    username = known["username"] if known.get("address") == address else None
    return ContainerRegistry(address=address, image=row.base_image, username=username)


async def delete(session: AsyncSession, scope: Scope, package_id: UUID) -> None:
    """Remove it and its files; what it was made of stays. An operation that still makes it is cancelled.

    Raises NotFound.
    """
    # Operations first, in the order in which reports lock them.
    for operation in await operations.open_on(session, scope.workspace_id, f"packages/{package_id}"):
        await operations.request_cancel(session, operation)
    row = await get_row(session, scope, package_id)
    await models.drop_uses(session, scope.workspace_id, _subject(row))
    await audit.record(session, scope.principal, "package.delete", _subject(row), workspace_id=scope.workspace_id)
    await _emit(session, row, "package.deleted")
    files = row.snapshot_id
    await session.delete(row)
    await session.flush()
    if files is not None:
        await snapshots.release(session, files)


def contract(row: PackageTable, workspace: str) -> Package:
    """A package as it goes over the wire."""
    archive = None
    if row.archive_sha256 is not None and row.archive_size_bytes is not None:
        archive = Archive(sha256=row.archive_sha256, size_bytes=row.archive_size_bytes)
    return Package(
        id=str(row.id),
        workspace=workspace,
        kind=PackageKind(row.kind),
        state=PackageState(row.state),
        reason=row.reason,
        models=row.models,
        inference_config=InferenceConfig(**row.inference_config),
        environment=row.inference_config["environment"],
        image=_image(row),
        image_id=row.image_id,
        base_image=row.base_image,
        size_bytes=row.size_bytes,
        archive=archive,
        pushed=row.pushed,
        operation=str(row.operation_id) if row.operation_id else None,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def _image(row: PackageTable) -> str:
    return f"{row.image_name}:{row.image_label}"


def _subject(row: PackageTable) -> str:
    return f"packages/{row.id}"


async def _emit(session: AsyncSession, row: PackageTable, name: str, **payload: object) -> None:
    await events.emit(session, name, workspace_id=row.workspace_id, subject=_subject(row), **payload)


async def _expand(session: AsyncSession, operation: OperationTable) -> dict[str, Any]:
    row = await session.get(PackageTable, UUID(operation.spec["package_id"]))
    scope = await workspaces.own_scope(session, operation.workspace_id)
    if row is None:
        raise NotFound("package", operation.spec["package_id"])
    config = InferenceConfig(**row.inference_config)
    spec = PackageSpec(
        id=str(row.id),
        workspace=scope.workspace,
        kind=PackageKind(row.kind),
        image=_image(row),
        entry_script=config.entry_script,
        snapshot_files=await snapshots.files_of(session, row.source_id),
        models=[await inference.model_files(session, scope, reference) for reference in row.models],
        environment=await environments.image_spec_of(session, row.environment_version_id),
        base=await environments.base_of(session, row.environment_version_id),
        extra_docker_file_steps=config.extra_docker_file_steps or "",
    )
    return spec.model_dump(mode="json")


async def _ended(session: AsyncSession, operation: OperationTable) -> None:
    """Note how it went. A package that was deleted meanwhile leaves nothing behind."""
    row = await session.get(PackageTable, UUID(operation.spec["package_id"]), with_for_update=True)
    if operation.state == OperationState.SUCCEEDED:
        await _keep(session, operation, row)
    elif row is not None:
        error = OperationError.model_validate(operation.error) if operation.error else None
        row.state, row.reason = PackageState.FAILED, error.message if error else f"it was {operation.state}"
        await _emit(session, row, "package.failed", reason=row.reason)


async def _keep(session: AsyncSession, operation: OperationTable, row: PackageTable | None) -> None:
    found = PackageResult.model_validate(operation.result)
    scope = await workspaces.own_scope(session, operation.workspace_id)
    snapshot = await snapshots.require_ready(session, scope, found.files)
    if row is None:
        await snapshots.release(session, snapshot.id)
        return
    row.state, row.snapshot_id, row.pushed = PackageState.READY, snapshot.id, found.pushed
    row.image_id, row.base_image, row.size_bytes = found.image_id, found.base_image, found.size_bytes
    row.archive_sha256, row.archive_size_bytes = found.archive.sha256, found.archive.size_bytes
    await _emit(session, row, "package.ready", image=_image(row), pushed=row.pushed)


kinds.register(OperationKind.PACKAGE, kinds.Kind(Role.CONTRIBUTOR, expand=_expand, ended=_ended))
