"""Environments: declared, resolved once, built where they are needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import anyio.to_thread
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Role
from keelway.contracts.environments import (
    Environment,
    EnvironmentLock,
    EnvironmentVersion,
    EnvironmentVersionCreate,
)
from keelway.contracts.operations import Operation, OperationKind
from keelway.contracts.services import BuildSpec, EnvironmentSpec
from keelway_api import versions
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.db import Sessions
from keelway_api.environments import definition, resolver
from keelway_api.environments.tables import EnvironmentTable, EnvironmentVersionTable
from keelway_api.errors import NoNode, NotFound
from keelway_api.nodes import service as nodes
from keelway_api.operations import kinds
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.settings import ApiSettings

Row = tuple[EnvironmentVersionTable, EnvironmentTable]


async def register(
    sessions: Sessions, scope: Scope, name: str, body: EnvironmentVersionCreate, settings: ApiSettings
) -> tuple[EnvironmentVersion, bool]:
    """The version with this content, and True when it is new. Nothing is held open while uv resolves.

    Raises EnvironmentInvalid, EnvironmentUnsolvable, PythonNotAvailable, NoNode.
    """
    wanted = await anyio.to_thread.run_sync(definition.read, body)  # a long YAML file takes seconds
    async with sessions() as session:
        pythons = await nodes.pythons(session, settings.node_away_s)
    if not pythons:
        raise NoNode
    python_version = definition.choose_python(wanted.python, pythons)
    content = _content_digest(body, wanted, python_version)
    async with sessions() as session:
        if row := await _with_content(session, scope, name, content):
            return contract(row), False
    lock = await resolver.lock(wanted.requirements, python_version)
    async with sessions.begin() as session:
        resolved = _Resolved(content, wanted, python_version, lock)
        return await _insert(session, scope, name, body, resolved)


@dataclass(frozen=True)
class _Resolved:
    """What became of an environment's description."""

    content: str
    wanted: definition.Definition
    python_version: str
    lock: str


async def _insert(
    session: AsyncSession, scope: Scope, name: str, body: EnvironmentVersionCreate, resolved: _Resolved
) -> tuple[EnvironmentVersion, bool]:
    environment = await _locked(session, scope, name)
    wanted = resolved.wanted
    if row := await _with_content(session, scope, name, resolved.content):  # another request was faster
        return contract(row), False
    environment.last_version += 1
    version = EnvironmentVersionTable(
        environment_id=environment.id,
        version=environment.last_version,
        content_digest=resolved.content,
        definition=body.model_dump(exclude={"environment_variables"}) | {"environment_variables": wanted.variables},
        python_version=resolved.python_version,
        requirements=list(wanted.requirements),
        lock=resolved.lock,
        lock_digest=hashlib.sha256(resolved.lock.encode()).hexdigest(),
        created_by=scope.principal.name,
    )
    session.add(version)
    await session.flush()
    await session.refresh(version)
    subject = f"environments/{name}/versions/{version.version}"
    await audit.record(session, scope.principal, "environment.register", subject, workspace_id=scope.workspace_id)
    return contract((version, environment)), True


async def _locked(session: AsyncSession, scope: Scope, name: str) -> EnvironmentTable:
    await session.execute(
        insert(EnvironmentTable)
        .values(workspace_id=scope.workspace_id, name=name, last_version=0)
        .on_conflict_do_nothing()
    )
    row = await session.scalar(
        select(EnvironmentTable)
        .where(EnvironmentTable.workspace_id == scope.workspace_id, EnvironmentTable.name == name)
        .with_for_update()
    )
    assert row is not None
    return row


def _content_digest(body: EnvironmentVersionCreate, wanted: definition.Definition, python_version: str) -> str:
    content = {
        "conda_file": body.conda_file,
        "pip_requirements": body.pip_requirements,
        "python_version": python_version,
        "variables": wanted.variables,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


async def build(session: AsyncSession, scope: Scope, name: str, number: str, settings: ApiSettings) -> Operation:
    """Build it on a node, before anybody waits for it."""
    version, _ = await get_row(session, scope, name, number)
    row = await operations.submit(
        session,
        scope,
        OperationKind.BUILD,
        subject=f"environments/{name}/versions/{version.version}",
        spec={"environment_version_id": str(version.id)},
        deadline_s=settings.operation_deadline_s,
    )
    return await operations.contract(session, row)


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
        lock=version.lock,
        lock_digest=version.lock_digest,
        environment_variables=version.definition.get("environment_variables", {}),
    )


def lock_of(row: Row) -> EnvironmentLock:
    """The lock as it goes over the wire."""
    version = row[0]
    return EnvironmentLock(digest=version.lock_digest, python_version=version.python_version, requirements=version.lock)


def contract(row: Row) -> EnvironmentVersion:
    """A version as it goes over the wire."""
    version, environment = row
    return EnvironmentVersion(
        id=f"{environment.name}:{version.version}",
        name=environment.name,
        version=version.version,
        python_version=version.python_version,
        requirements=version.requirements,
        conda_file=version.definition.get("conda_file"),
        pip_requirements=version.definition.get("pip_requirements"),
        environment_variables=version.definition.get("environment_variables", {}),
        lock_digest=version.lock_digest,
        created_at=version.created_at,
        created_by=version.created_by,
    )


def _versions(workspace_id: UUID):
    return (
        select(EnvironmentVersionTable, EnvironmentTable)
        .join(EnvironmentTable, EnvironmentVersionTable.environment_id == EnvironmentTable.id)
        .where(EnvironmentTable.workspace_id == workspace_id)
    )


async def _with_content(session: AsyncSession, scope: Scope, name: str, content: str) -> Row | None:
    wanted = _versions(scope.workspace_id).where(
        EnvironmentTable.name == name, EnvironmentVersionTable.content_digest == content
    )
    return (await session.execute(wanted)).tuples().first()


async def _expand_build(session: AsyncSession, operation: OperationTable) -> dict[str, Any]:
    spec = BuildSpec(environment=await spec_of(session, UUID(operation.spec["environment_version_id"])))
    return spec.model_dump(mode="json")


kinds.register(OperationKind.BUILD, kinds.Kind(Role.CONTRIBUTOR, expand=_expand_build))
