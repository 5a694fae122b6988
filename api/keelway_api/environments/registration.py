"""Registering an environment: read, resolved without a transaction, kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import anyio.to_thread
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.environments import EnvironmentVersion, EnvironmentVersionCreate, lock_digest
from keelway.contracts.images import MAX_CONTEXT_BYTES, BuildContext
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.objects import StoredFile
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.environments import conda, conda_solver, curated, definition, resolver, service, wheels
from keelway_api.environments.channels import UNLESS_NAMED, addresses
from keelway_api.environments.definition import Definition
from keelway_api.environments.tables import EnvironmentTable, EnvironmentVersionTable, RegistryCredentialsTable
from keelway_api.errors import InvalidRequest, NoNode
from keelway_api.manifests import service as manifests
from keelway_api.nodes import service as nodes
from keelway_api.settings import ApiSettings
from keelway_api.snapshots import service as snapshots


@dataclass(frozen=True)
class Uploads:
    """What a description refers to: a snapshot of wheels with where their bytes are, a build context."""

    wheels_id: UUID | None = None
    wheels: Sequence[StoredFile] = ()
    build_context_id: UUID | None = None


@dataclass(frozen=True)
class Prepared:
    """A description that was read: what it asks for, and what is the same for all that say the same."""

    body: EnvironmentVersionCreate
    wanted: Definition
    uploads: Uploads
    python_version: str

    @property
    def content(self) -> str:
        """The digest of what it says."""
        return _content_digest(self.body, self.wanted, self.python_version)


@dataclass(frozen=True)
class Resolved:
    """What became of an environment's description."""

    python_version: str
    lock: str
    conda_lock: str | None = None


async def register(
    sessions: Sessions,
    store: BlobStore,
    scope: Scope,
    name: str,
    body: EnvironmentVersionCreate,
    settings: ApiSettings,
) -> tuple[EnvironmentVersion, bool]:
    """The version with this content, and True when it is new. Nothing is held open while it is resolved.

    Raises EnvironmentInvalid, EnvironmentUnsolvable, PythonNotAvailable, NameReserved, NotFound and WrongState for
    snapshots, NoNode, DependencyAway, TooBusy.
    """
    curated.require_free(name)
    wanted = await anyio.to_thread.run_sync(definition.read, body)  # a long YAML file takes seconds
    async with sessions() as session:
        uploads = await _uploads(session, scope, wanted.image.build_context, body.wheels)
        wanted, python_version = await _with_python(session, wanted, settings)
    prepared = Prepared(body, wanted, uploads, python_version)
    async with sessions.begin() as session:
        if row := await _found(session, scope, name, prepared):
            return service.contract(row), False
    resolved = await _resolve(store, prepared, settings)
    async with sessions.begin() as session:
        return await _insert(session, scope, name, prepared, resolved)


async def _found(session: AsyncSession, scope: Scope, name: str, prepared: Prepared) -> service.Row | None:
    """The version that says the same, with the credentials that were given now."""
    row = await service.with_content(session, scope, name, prepared.content)
    if row is not None:
        await _keep_credentials(session, row[0].id, prepared.wanted)
    return row


async def _uploads(session: AsyncSession, scope: Scope, context: BuildContext | None, digest: str | None) -> Uploads:
    found = Uploads()
    if digest is not None:
        snapshot = await snapshots.require_ready(session, scope, digest)
        files = await manifests.stored_files(session, snapshot.manifest_id)
        wheels.check(files)
        found = replace(found, wheels_id=snapshot.id, wheels=files)
    if context is not None:
        snapshot = await snapshots.require_ready(session, scope, context.snapshot)
        size_bytes = await manifests.size_of(session, snapshot.manifest_id)
        if size_bytes > MAX_CONTEXT_BYTES:
            raise InvalidRequest(
                "body.build_context.snapshot", f"it has {size_bytes:,} bytes, more than {MAX_CONTEXT_BYTES:,}"
            )
        if not await manifests.stored_files(session, snapshot.manifest_id, path=context.dockerfile):
            raise InvalidRequest("body.build_context.dockerfile", f"{context.dockerfile!r} is not in the snapshot")
        found = replace(found, build_context_id=snapshot.id)
    return found


async def _with_python(session: AsyncSession, wanted: Definition, settings: ApiSettings) -> tuple[Definition, str]:
    """The python to resolve for; a range when conda is to choose from it, nothing when it is the image's own."""
    if wanted.is_user_managed:
        return wanted, ""
    if wanted.conda_specs and wanted.python is not None:
        return wanted, str(wanted.python)
    pythons = await nodes.pythons(session, settings.node_away_s)
    if not pythons:
        raise NoNode
    chosen = definition.choose_python(wanted.python, pythons)
    return (replace(wanted, python=conda.python_versions([chosen])) if wanted.conda_specs else wanted), chosen


async def _resolve(store: BlobStore, prepared: Prepared, settings: ApiSettings) -> Resolved:
    wanted, python_version = prepared.wanted, prepared.python_version
    if wanted.is_user_managed:
        return Resolved(python_version, "")
    given, conda_lock = (), None
    if wanted.conda_specs:
        found = await conda_solver.lock(wanted, addresses(wanted.channels, settings))
        given, conda_lock, python_version = found.given, found.text, found.python_version
    async with wheels.laid_out(store, prepared.uploads.wheels) as paths:
        asked = resolver.Wanted(wanted.requirements, python_version, wanted.machine, paths, given)
        return Resolved(python_version, await resolver.lock(asked), conda_lock)


async def _insert(
    session: AsyncSession, scope: Scope, name: str, prepared: Prepared, resolved: Resolved
) -> tuple[EnvironmentVersion, bool]:
    environment = await _locked(session, scope, name)
    if row := await _found(session, scope, name, prepared):  # another request was faster
        return service.contract(row), False
    environment.last_version += 1
    version = EnvironmentVersionTable(
        environment_id=environment.id,
        version=environment.last_version,
        content_digest=prepared.content,
        definition=_stored(prepared.body, prepared.wanted),
        python_version=resolved.python_version,
        requirements=list(prepared.wanted.requirements),
        lock=resolved.lock,
        conda_lock=resolved.conda_lock,
        lock_digest=lock_digest(resolved.lock, resolved.conda_lock),
        wheels_id=prepared.uploads.wheels_id,
        build_context_id=prepared.uploads.build_context_id,
        created_by=scope.principal.name,
    )
    session.add(version)
    await session.flush()
    await session.refresh(version)
    await _keep_credentials(session, version.id, prepared.wanted)
    subject = f"environments/{name}/versions/{version.version}"
    await audit.record(session, scope.principal, "environment.register", subject, workspace_id=scope.workspace_id)
    return service.contract((version, environment)), True


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


async def _keep_credentials(session: AsyncSession, version_id: UUID, wanted: Definition) -> None:
    """Keep what the image's registry wants to know. The password is no content: a new one replaces it."""
    registry = wanted.image.registry
    if registry is None:
        return
    values = registry.model_dump()
    await session.execute(
        insert(RegistryCredentialsTable)
        .values(version_id=version_id, **values)
        .on_conflict_do_update(index_elements=["version_id"], set_=values)
    )


def _content_digest(body: EnvironmentVersionCreate, wanted: Definition, python_version: str) -> str:
    content = {
        "conda_file": body.conda_file,
        "pip_requirements": body.pip_requirements,
        "python_version": python_version,
        "variables": wanted.variables,
        # What came later counts only where it is said: the versions from before keep their digest.
        **{key: value for key, value in _said(body, wanted).items() if value},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _said(body: EnvironmentVersionCreate, wanted: Definition) -> dict[str, Any]:
    """Of a description, what is neither packages nor a secret."""
    image = wanted.image
    return {
        "definition": _without_registry(body),
        "wheels": body.wheels,
        "base_image": image.base_image,
        "base_image_registry": image.registry.model_dump(exclude={"password"}) if image.registry else None,
        "dockerfile": image.dockerfile,
        "build_context": image.build_context.model_dump() if image.build_context else None,
        "user_managed_dependencies": wanted.is_user_managed,
        "real_azureml": body.real_azureml,
    }


def _without_registry(body: EnvironmentVersionCreate) -> dict[str, Any] | None:
    """The definition as it is kept: whose name and version it once was does not matter."""
    if body.definition is None:
        return None
    document = body.definition.model_dump(mode="json", exclude={"name", "version"})
    registry = document["docker"]["baseImageRegistry"]
    document["docker"]["baseImageRegistry"] = {"registryIdentity": registry["registryIdentity"]}
    return document


def _stored(body: EnvironmentVersionCreate, wanted: Definition) -> dict[str, Any]:
    """The description as it is kept, with what was read in it."""
    return {
        "conda_file": body.conda_file,
        "pip_requirements": body.pip_requirements,
        "python_version": body.python_version,
        "environment_variables": wanted.variables,
        "platform": None if wanted.is_user_managed else f"linux-{wanted.machine}",
        "conda_packages": list(wanted.conda_packages),
        "channels": list(wanted.channels or UNLESS_NAMED) if wanted.conda_specs else [],
        "notes": list(wanted.notes),
        **_said(body, wanted),
    }
