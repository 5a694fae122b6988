"""Environments: found, described, handed to nodes. How they come to be is in registration.py."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.environment_json import EnvironmentDefinition
from keelway.contracts.environments import (
    Environment,
    EnvironmentLock,
    EnvironmentVersion,
    LockDiff,
    Registry,
    lock_digest,
)
from keelway.contracts.files import FileEntry
from keelway.contracts.images import BaseSpec, EnvironmentBuild, RegistryCredentials
from keelway.contracts.locks import packages_of
from keelway.contracts.operations import Operation, OperationKind
from keelway.contracts.services import EnvironmentSpec
from keelway_api import versions
from keelway_api.auth.dependencies import Scope
from keelway_api.environments import curated, locks, old_json
from keelway_api.environments.curated import CURATED
from keelway_api.environments.tables import EnvironmentTable, EnvironmentVersionTable, RegistryCredentialsTable
from keelway_api.errors import NeedsImage, NotFound
from keelway_api.operations import service as operations
from keelway_api.settings import ApiSettings
from keelway_api.snapshots import service as snapshots

Row = tuple[EnvironmentVersionTable, EnvironmentTable]


async def build(
    session: AsyncSession, scope: Scope, name: str, number: str, body: EnvironmentBuild, settings: ApiSettings
) -> Operation:
    """Build it, or an image of it, before anybody waits for it. Raises NotFound, NeedsImage."""
    found = await get_row(session, scope, name, number)
    if body.target == "process":
        require_buildable(found, "a build for processes")
    row = await operations.submit(
        session,
        scope,
        OperationKind.BUILD,
        subject=f"environments/{name}/versions/{found[0].version}",
        spec={"environment_version_id": str(found[0].id), "target": body.target},
        deadline_s=settings.operation_deadline_s,
    )
    return await operations.contract(session, row)


def require_buildable(row: Row, what: str) -> None:
    """Raises NeedsImage when there are no packages of ours to build it from; `what` is what would have needed it."""
    version, environment = row
    if version.definition.get("user_managed_dependencies"):
        raise NeedsImage(f"{environment.name}:{version.version}", what)


async def get_row(session: AsyncSession, scope: Scope, name: str, number: str) -> Row:
    """One version, where `latest` is the highest. Raises NotFound."""
    wanted = _versions(scope.workspace_id).where(EnvironmentTable.name == name)
    row = await versions.pick(session, wanted, EnvironmentVersionTable.version, number)
    if row is None:
        raise NotFound("environment version", f"{name}:{number}")
    return row


async def list_versions(
    session: AsyncSession, scope: Scope, name: str, *, before: int | None, limit: int
) -> Sequence[EnvironmentVersion]:
    """Versions of one environment, newest first. Raises NotFound."""
    wanted = _versions(scope.workspace_id).where(EnvironmentTable.name == name)
    if before is not None:
        wanted = wanted.where(EnvironmentVersionTable.version < before)
    rows = await session.execute(wanted.order_by(EnvironmentVersionTable.version.desc()).limit(limit))
    found = [contract(row) for row in rows.tuples()]
    if not found and before is None:
        raise NotFound("environment", name)
    return found


async def list_environments(
    session: AsyncSession, scope: Scope, *, name: str | None, after: str | None, limit: int
) -> list[Environment]:
    """Environments by name, each with its newest version."""
    wanted = (
        _versions(scope.workspace_id)
        .where(EnvironmentVersionTable.version == EnvironmentTable.last_version)
        .order_by(EnvironmentTable.name)
        .limit(limit)
    )
    if name is not None:
        wanted = wanted.where(EnvironmentTable.name == name)
    if after is not None:
        wanted = wanted.where(EnvironmentTable.name > after)
    rows = await session.execute(wanted)
    return [Environment(name=row[1].name, created_at=row[1].created_at, latest=contract(row)) for row in rows.tuples()]


async def spec_of(session: AsyncSession, version_id: UUID) -> EnvironmentSpec:
    """What a node needs to build this version."""
    version = await session.get_one(EnvironmentVersionTable, version_id)
    environment = await session.get_one(EnvironmentTable, version.environment_id)
    return EnvironmentSpec(
        name=environment.name,
        version=version.version,
        python_version=version.python_version,
        platform=version.definition.get("platform"),
        lock=version.lock,
        conda_lock=version.conda_lock,
        lock_digest=version.lock_digest,
        wheels=await _wheels(session, version),
        environment_variables=version.definition.get("environment_variables", {}),
    )


async def _wheels(session: AsyncSession, version: EnvironmentVersionTable) -> list[FileEntry]:
    return await snapshots.files_of(session, version.wheels_id) if version.wheels_id else []


def lock_of(row: Row) -> EnvironmentLock:
    """The lock as it goes over the wire."""
    version = row[0]
    return EnvironmentLock(
        digest=version.lock_digest,
        python_version=version.python_version,
        platform=version.definition.get("platform"),
        requirements=version.lock,
        conda=version.conda_lock,
        packages=packages_of(version.lock, version.conda_lock),
    )


async def lock_diff(session: AsyncSession, scope: Scope, name: str, before: str, after: str) -> LockDiff:
    """What became of the lock from one version to another. Raises NotFound."""
    old, _ = await get_row(session, scope, name, before)
    new, environment = await get_row(session, scope, name, after)
    found = locks.difference(*(packages_of(each.lock, each.conda_lock) for each in (old, new)))
    return LockDiff(
        name=environment.name,
        from_version=old.version,
        to_version=new.version,
        from_python=old.python_version,
        to_python=new.python_version,
        added=found.added,
        removed=found.removed,
        changed=found.changed,
    )


def definition_of(row: Row) -> EnvironmentDefinition:
    """A version as the old system writes it, however it was registered; without the registry's password."""
    return old_json.written(contract(row), row[0].definition.get("definition"))


def contract(row: Row) -> EnvironmentVersion:
    """A version as it goes over the wire."""
    version, environment = row
    said = version.definition
    registry = said.get("base_image_registry")
    return EnvironmentVersion(
        id=f"{environment.name}:{version.version}",
        name=environment.name,
        version=version.version,
        python_version=version.python_version,
        platform=said.get("platform"),
        requirements=version.requirements,
        conda_packages=said.get("conda_packages", []),
        channels=said.get("channels", []),
        conda_file=said.get("conda_file"),
        pip_requirements=said.get("pip_requirements"),
        environment_variables=said.get("environment_variables", {}),
        wheels=said.get("wheels"),
        base_image=said.get("base_image"),
        base_image_registry=Registry(**registry) if registry else None,
        dockerfile=said.get("dockerfile"),
        build_context=said.get("build_context"),
        user_managed_dependencies=said.get("user_managed_dependencies", False),
        real_azureml=said.get("real_azureml", False),
        is_curated=environment.workspace_id is None,
        notes=said.get("notes", []),
        lock_digest=version.lock_digest,
        created_at=version.created_at,
        created_by=version.created_by,
    )


def _versions(workspace_id: UUID):
    """All versions that this workspace sees: its own, and the curated ones of all."""
    own = and_(EnvironmentTable.workspace_id == workspace_id, EnvironmentTable.name.not_in(CURATED))
    return (
        select(EnvironmentVersionTable, EnvironmentTable)
        .join(EnvironmentTable, EnvironmentVersionTable.environment_id == EnvironmentTable.id)
        .where(or_(own, EnvironmentTable.workspace_id.is_(None)))
    )


async def with_content(session: AsyncSession, scope: Scope, name: str, content: str) -> Row | None:
    """The version of a name that has this content, if there is one."""
    wanted = _versions(scope.workspace_id).where(
        EnvironmentTable.name == name, EnvironmentVersionTable.content_digest == content
    )
    return (await session.execute(wanted)).tuples().first()


async def base_of(session: AsyncSession, version_id: UUID) -> BaseSpec:
    """What a node needs to find or make the image that this version's image starts from, with its registry's password.

    For a claim alone, which is kept nowhere.
    """
    version = await session.get_one(EnvironmentVersionTable, version_id)
    said, context = version.definition, version.definition.get("build_context") or {}
    credentials = await session.get(RegistryCredentialsTable, version_id)
    definition = EnvironmentDefinition.model_validate(said["definition"]) if said.get("definition") else None
    return BaseSpec(
        base_image=said.get("base_image"),
        dockerfile=said.get("dockerfile"),
        context=await snapshots.files_of(session, version.build_context_id) if version.build_context_id else [],
        context_dockerfile=context.get("dockerfile", "Dockerfile"),
        registry=_registry(credentials),
        interpreter=(definition.python.interpreter_path if definition else None) or "python",
        is_user_managed=bool(said.get("user_managed_dependencies")),
        brings_python=version.conda_lock is not None,
    )


def _registry(row: RegistryCredentialsTable | None) -> RegistryCredentials | None:
    if row is None:
        return None
    return RegistryCredentials(address=row.address, username=row.username, password=row.password)


async def image_spec_of(session: AsyncSession, version_id: UUID) -> EnvironmentSpec:
    """What a node installs into this version's image. Beside the image's own packages goes what the runtime needs."""
    spec = await spec_of(session, version_id)
    if not (await session.get_one(EnvironmentVersionTable, version_id)).definition.get("user_managed_dependencies"):
        return spec
    lock = curated.lock_file(curated.MINIMAL).read_text(encoding="utf-8")
    return spec.model_copy(update={"lock": lock, "lock_digest": lock_digest(lock)})
