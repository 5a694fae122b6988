"""The operations of services: what a worker gets to do, and what follows when it is done."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Role
from keelway.contracts.operations import OperationError, OperationKind, OperationState
from keelway.contracts.services import (
    Activate,
    DeleteSpec,
    DeploymentConfig,
    DeploySpec,
    PlaceReplicas,
    ReplicaList,
    ReplicaSpec,
    ReplicaState,
)
from keelway_api import inference
from keelway_api.bell import ring
from keelway_api.environments import service as environments
from keelway_api.errors import WrongState
from keelway_api.images import service as images
from keelway_api.manifests import service as manifests
from keelway_api.models import service as models
from keelway_api.nodes import service as nodes
from keelway_api.operations import kinds
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.services import queries, revisions, service
from keelway_api.services.tables import ReplicaTable, RevisionTable, ServiceTable
from keelway_api.settings import ApiSettings
from keelway_api.snapshots.tables import SnapshotTable
from keelway_api.storable import storable
from keelway_api.workspaces import service as workspaces


async def replica_spec(session: AsyncSession, revision: RevisionTable, *, name: str, generation: int) -> ReplicaSpec:
    """All that a node needs to run a replica of this revision."""
    owner = await session.get_one(ServiceTable, revision.service_id)
    scope = await workspaces.own_scope(session, owner.workspace_id)
    snapshot = await session.get_one(SnapshotTable, revision.snapshot_id)
    config = DeploymentConfig(**revision.deployment_config)
    is_contained = config.resources is not None
    environment = environments.image_spec_of if is_contained else environments.spec_of
    return ReplicaSpec(
        name=name,
        workspace=scope.workspace,
        service=owner.name,
        revision=revision.name,
        target=config.compute_type,
        entry_script=revision.inference_config["entry_script"],
        snapshot_digest=snapshot.digest,
        snapshot_files=await manifests.files_of(session, snapshot.manifest_id),
        models=[await inference.model_files(session, scope, reference) for reference in revision.models],
        environment=await environment(session, revision.environment_version_id),
        generation=generation,
        collects_data=config.collect_model_data,
        image=await images.container_image(session, revision.image_id) if revision.image_id else None,
        resources=config.resources,
    )


async def place(session: AsyncSession, operation_id: UUID, body: PlaceReplicas) -> ReplicaList:
    """The replicas of this operation's revision are wanted on this node. Asking again changes nothing.

    Raises StaleAttempt, WrongState, NotFound for a node that never registered.
    """
    operation = await operations.require_attempt(session, operation_id, body.epoch)
    _require_under_way(operation)
    owner, revision = await _locked(session, operation)
    await nodes.find(session, body.node)
    revision.image = storable(body.image)
    if body.built is not None:
        revision.image_id = await images.note(session, operation, body.built)
    there = list(await queries.wanted_replicas(session, revision.id))
    await service.unwant(session, [replica for replica in there if replica.node != body.node])
    here = [replica for replica in there if replica.node == body.node]
    if len(here) < revision.num_replicas:
        generation = await nodes.raise_generation(session, body.node)
        for index in range(len(here), revision.num_replicas):
            session.add(_new_replica(owner, revision, body.node, index, generation))
        await session.flush()
    return await replicas(session, operation)


def _new_replica(owner: ServiceTable, revision: RevisionTable, node: str, index: int, generation: int) -> ReplicaTable:
    return ReplicaTable(
        name=f"{owner.name}-{revision.name}-{index}-{secrets.token_hex(3)}",
        service_id=owner.id,
        revision_id=revision.id,
        node=node,
        generation=generation,
        state=ReplicaState.PENDING,
    )


async def replicas(session: AsyncSession, operation: OperationTable) -> ReplicaList:
    """What this operation waits for: the wanted replicas of a deployment, whatever is left for a deletion.

    Raises WrongState for an operation that has none.
    """
    _require_kind(operation, OperationKind.DEPLOY, OperationKind.DELETE)
    if operation.kind == OperationKind.DELETE:
        rows = await queries.replicas_of(session, UUID(operation.spec["service_id"]))
    else:
        rows = await queries.wanted_replicas(session, UUID(operation.spec["revision_id"]))
    names = {one.id: one.name for one in await queries.revisions_of(session, UUID(operation.spec["service_id"]))}
    items = [service.replica_contract(row, names[row.revision_id]) for row in rows]
    shown = json.dumps([item.model_dump(mode="json") for item in items], sort_keys=True)
    return ReplicaList(items=items, seen=hashlib.sha256(shown.encode()).hexdigest()[:16])


async def activate(session: AsyncSession, operation_id: UUID, body: Activate) -> None:
    """All traffic goes to this operation's revision. Raises StaleAttempt, WrongState."""
    operation = await operations.require_attempt(session, operation_id, body.epoch)
    _require_under_way(operation)
    owner, revision = await _locked(session, operation)
    if revision.traffic == 0:
        await revisions.serve(session, owner, revision)
    await ring(session, "gateway")


def _require_kind(operation: OperationTable, *kinds: OperationKind) -> None:
    if operation.kind not in kinds:
        raise WrongState(f"Operation {operation.id}", f"of kind {operation.kind}", f"kind {' or '.join(kinds)}")


def _require_under_way(operation: OperationTable) -> None:
    """A deployment that nobody has cancelled: what is being deleted must not get new replicas or traffic."""
    _require_kind(operation, OperationKind.DEPLOY)
    if operation.state != OperationState.RUNNING:
        raise WrongState(f"Operation {operation.id}", operation.state, "a deployment that goes on")


async def _locked(session: AsyncSession, operation: OperationTable) -> tuple[ServiceTable, RevisionTable]:
    owner = await queries.service_locked(session, UUID(operation.spec["service_id"]))
    assert owner is not None, "a service outlives its operations"
    return owner, await session.get_one(RevisionTable, UUID(operation.spec["revision_id"]))


class Deployments:
    """The kinds `deploy` and `delete`, with the settings they need."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings

    def register(self) -> None:
        """Make both kinds known to operations."""
        kinds.register(
            OperationKind.DEPLOY,
            kinds.Kind(Role.DEPLOYER, expand=self._deploy_spec, progressed=self._progressed, ended=self._deploy_ended),
        )
        kinds.register(
            OperationKind.DELETE,
            kinds.Kind(Role.DEPLOYER, expand=self._delete_spec, ended=self._delete_ended, is_cancellable=False),
        )

    async def _deploy_spec(self, session: AsyncSession, operation: OperationTable) -> dict[str, Any]:
        revision = await session.get_one(RevisionTable, UUID(operation.spec["revision_id"]))
        spec = await replica_spec(session, revision, name="", generation=0)
        address = f"/{spec.workspace}/{spec.service}"
        return DeploySpec(
            replica=spec,
            base=await environments.base_of(session, revision.environment_version_id) if spec.resources else None,
            num_replicas=revision.num_replicas,
            scoring_uri=f"{self._settings.gateway_base}{address}/score",
            health_uri=f"{self._settings.gateway_check_base}{address}/",
            warm_up=await self._warm_up(session, revision),
        ).model_dump(mode="json")

    @staticmethod
    async def _warm_up(session: AsyncSession, revision: RevisionTable) -> list[Any]:
        """The sample input of its model. Several models with one each: which the script takes is not known."""
        owner = await session.get_one(ServiceTable, revision.service_id)
        scope = await workspaces.own_scope(session, owner.workspace_id)
        rows = [await models.find_version(session, scope, reference) for reference in revision.models]
        samples = [row[0].sample_input for row in rows if row[0].sample_input is not None]
        return samples if len(samples) == 1 else []

    async def _delete_spec(self, session: AsyncSession, operation: OperationTable) -> dict[str, Any]:
        owner = await session.get_one(ServiceTable, UUID(operation.spec["service_id"]))
        names = await workspaces.names_of(session, [owner.workspace_id])
        rows = await queries.replicas_of(session, owner.id)
        return DeleteSpec(
            workspace=names[owner.workspace_id], service=owner.name, replicas=[row.name for row in rows]
        ).model_dump(mode="json")

    async def _progressed(self, session: AsyncSession, operation: OperationTable) -> None:
        if owner := await queries.service_locked(session, UUID(operation.spec["service_id"])):
            await service.refresh(session, owner, self._settings)

    async def _deploy_ended(self, session: AsyncSession, operation: OperationTable) -> None:
        owner = await queries.service_locked(session, UUID(operation.spec["service_id"]))
        if owner is None:
            return
        if operation.state == OperationState.SUCCEEDED and not owner.is_deleting:
            await self._settle(session, owner, operation)
        else:
            await self._give_up(session, owner, operation)
        await service.refresh(session, owner, self._settings)

    async def _settle(self, session: AsyncSession, owner: ServiceTable, operation: OperationTable) -> None:
        """The gateway leads to the new revision: those before it have nothing to do any more."""
        owner.observed_generation, owner.failure = owner.generation, ""
        new = UUID(operation.spec["revision_id"])
        old = [one for one in await queries.replicas_of(session, owner.id) if one.revision_id != new]
        await service.unwant(session, old)
        await revisions.note_uses(session, owner)
        await service.tell_of_change(session, owner, back_to=operation.spec.get("back_to"))

    async def _give_up(self, session: AsyncSession, owner: ServiceTable, operation: OperationTable) -> None:
        """A deployment that did not succeed leaves nothing running; what served before takes all traffic again."""
        owner.failure = _failure(operation)
        revision = await session.get_one(RevisionTable, UUID(operation.spec["revision_id"]))
        if not owner.is_deleting:
            await revisions.give_back(session, owner, revision)
        await service.unwant(session, await queries.wanted_replicas(session, revision.id))
        await revisions.note_uses(session, owner)
        await ring(session, "gateway")

    async def _delete_ended(self, session: AsyncSession, operation: OperationTable) -> None:
        owner = await queries.service_locked(session, UUID(operation.spec["service_id"]))
        if owner is None:
            return
        if operation.state == OperationState.SUCCEEDED:
            await service.remove(session, owner)
        else:
            owner.failure = _failure(operation)
            if not await service.remove_if_gone(session, owner):
                await service.refresh(session, owner, self._settings)


def _failure(operation: OperationTable) -> str:
    what = "deployment" if operation.kind == OperationKind.DEPLOY else "deletion"
    if operation.state == OperationState.CANCELLED:
        return f"the {what} was cancelled"
    return OperationError(**operation.error).message if operation.error else f"the {what} failed"
