"""Services: wanted, described, removed. What runs follows; see deployment.py and observation.py."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete as delete_rows
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.operations import Operation, OperationKind, OperationState
from keelway.contracts.services import (
    DeploymentConfig,
    InferenceConfig,
    Replica,
    ReplicaState,
    Revision,
    Service,
    ServiceCreate,
    ServiceState,
)
from keelway_api import events, inference
from keelway_api.auth.dependencies import Scope
from keelway_api.bell import ring
from keelway_api.environments.tables import EnvironmentTable, EnvironmentVersionTable
from keelway_api.errors import AlreadyExists, NotFound
from keelway_api.models import service as models
from keelway_api.nodes import service as nodes
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.preconditions import IfMatch
from keelway_api.services import queries, revisions, state
from keelway_api.services.tables import ReplicaTable, RevisionTable, ServiceTable
from keelway_api.settings import ApiSettings


async def create(session: AsyncSession, scope: Scope, body: ServiceCreate, settings: ApiSettings) -> Service:
    """A new service and the operation that deploys it.

    Raises AlreadyExists, NotFound, WrongState and NeedsImage for what it refers to, InvalidRequest for a script that is
    not there.
    """
    used = await inference.resolve(session, scope, body.models, body.inference_config)
    revisions.require_runnable(used, body.deployment_config)
    service = await _insert(session, scope, body)
    await revisions.deploy(session, scope, service, used, body.deployment_config, settings)
    await _emit(session, service, "service.created", models=used.models)
    return await contract(session, service, scope.workspace, settings)


async def users_of_image(session: AsyncSession, scope: Scope, identity: str) -> list[str]:
    """The services that run in containers of an image, as `services/NAME`."""
    names = await queries.users_of_image(session, scope.workspace_id, identity)
    return [f"services/{name}" for name in names]


async def _insert(session: AsyncSession, scope: Scope, body: ServiceCreate) -> ServiceTable:
    made = await session.scalar(
        insert(ServiceTable)
        .values(
            workspace_id=scope.workspace_id,
            name=body.name,
            state=ServiceState.TRANSITIONING,
            reason="waiting for a worker",
            target=body.deployment_config.compute_type,
            description=body.description,
            tags=body.tags,
            properties=body.properties,
            created_by=scope.principal.name,
        )
        .on_conflict_do_nothing()
        .returning(ServiceTable.id)
    )
    if made is None:
        raise AlreadyExists("service", body.name)
    return await session.get_one(ServiceTable, made)


async def get(session: AsyncSession, scope: Scope, name: str, settings: ApiSettings) -> Service:
    """One service. Raises NotFound."""
    row = await queries.service_named(session, scope.workspace_id, name)
    return await contract(session, row, scope.workspace, settings)


async def list_services(
    session: AsyncSession, scope: Scope, settings: ApiSettings, *, name: str | None, after: str | None, limit: int
) -> list[Service]:
    """Services by name; only the one called `name` when that is given."""
    wanted = select(ServiceTable).where(ServiceTable.workspace_id == scope.workspace_id)
    if name is not None:
        wanted = wanted.where(ServiceTable.name == name)
    if after is not None:
        wanted = wanted.where(ServiceTable.name > after)
    rows = await session.scalars(wanted.order_by(ServiceTable.name).limit(limit))
    return [await contract(session, row, scope.workspace, settings) for row in rows]


async def delete(
    session: AsyncSession, scope: Scope, name: str, settings: ApiSettings, precondition: IfMatch
) -> Operation:
    """Take it off the gateway now and stop its replicas. Asking again answers the operation that is under way.

    Raises NotFound, PreconditionFailed.
    """
    found = await queries.service_named(session, scope.workspace_id, name)
    # Operations before their service, in the order in which reports lock them: else one of both would be turned away.
    under_way = await operations.open_on(session, scope.workspace_id, found.subject)
    service = await queries.service_locked(session, found.id)
    if service is None:
        raise NotFound("service", name)
    if deletion := await _deletion(session, service):
        return await operations.contract(session, deletion)
    precondition.check(etag(service))
    for operation in under_way:
        await operations.request_cancel(session, operation)
    service.is_deleting, service.failure = True, ""
    for revision in await queries.revisions_of(session, service.id):
        revision.traffic = 0
    await unwant(session, await queries.replicas_of(session, service.id))
    operation = await operations.submit(
        session,
        scope,
        OperationKind.DELETE,
        subject=service.subject,
        spec={"service_id": str(service.id)},
        deadline_s=settings.operation_deadline_s,
    )
    service.operation_id = operation.id
    await refresh(session, service, settings)
    await ring(session, "gateway")
    return await operations.contract(session, operation)


async def _deletion(session: AsyncSession, service: ServiceTable) -> OperationTable | None:
    """The deletion that is under way; None when there is none, or when one has ended without success."""
    if not service.is_deleting or service.operation_id is None:
        return None
    operation = await session.get(OperationTable, service.operation_id)
    return None if operation is None or OperationState(operation.state).is_terminal else operation


async def remove_if_gone(session: AsyncSession, service: ServiceTable) -> bool:
    """A deletion may fail, and its replicas end all the same: then the service goes once the last of them is gone."""
    if not service.is_deleting or await _deletion(session, service) or await queries.replicas_of(session, service.id):
        return False
    await remove(session, service)
    return True


async def remove(session: AsyncSession, service: ServiceTable) -> None:
    """Nothing of it runs any more: the rows go, the name is free."""
    await models.drop_uses(session, service.workspace_id, service.subject)
    await _emit(session, service, "service.deleted")
    await session.execute(delete_rows(ServiceTable).where(ServiceTable.id == service.id))


async def unwant(session: AsyncSession, replicas: Sequence[ReplicaTable]) -> None:
    """These replicas should not run any more; their nodes are told."""
    for node in sorted({replica.node for replica in replicas if replica.is_wanted}):
        generation = await nodes.raise_generation(session, node)
        for replica in replicas:
            if replica.node == node and replica.is_wanted:
                replica.is_wanted, replica.generation = False, generation
    await session.flush()


async def refresh(session: AsyncSession, service: ServiceTable, settings: ApiSettings) -> None:
    """Judge the state of a locked service anew and keep it."""
    serving = {one.id: one for one in await queries.revisions_of(session, service.id) if one.traffic > 0}
    replicas = [one for one in await queries.replicas_of(session, service.id) if one.revision_id in serving]
    silent = {name: await nodes.silent_s(session, name) for name in sorted({one.node for one in replicas})}
    before = service.state
    service.state, service.reason = state.judge(
        state.Seen(
            is_deleting=service.is_deleting,
            step=await _step(session, service),
            failure=service.failure,
            has_traffic=bool(serving),
            wanted=sum(revision.num_replicas for revision in serving.values()),
            replicas=[(ReplicaState(one.state), one.reason) for one in replicas if one.is_wanted],
            away_nodes=[name for name, silent_s in silent.items() if silent_s > settings.node_away_s],
        )
    )
    if service.state != before and service.state in {ServiceState.HEALTHY, ServiceState.UNHEALTHY, ServiceState.FAILED}:
        await _emit(session, service, f"service.{service.state}", reason=service.reason)
    await session.flush()
    await ring(session, f"service:{service.id}")


async def _step(session: AsyncSession, service: ServiceTable) -> str | None:
    """What the deployment under way is doing; None when there is none."""
    if service.operation_id is None:
        return None
    operation = await session.get(OperationTable, service.operation_id)
    if operation is None or operation.kind != OperationKind.DEPLOY or OperationState(operation.state).is_terminal:
        return None
    return operation.steps[-1]["name"] if operation.steps else "waiting for a worker"


async def contract(session: AsyncSession, row: ServiceTable, workspace: str, settings: ApiSettings) -> Service:
    """A service as it goes over the wire."""
    known = await queries.revisions_of(session, row.id)
    names = {revision.id: revision.name for revision in known}
    shown = revisions.shown(known)
    replicas = await queries.replicas_of(session, row.id)
    address = f"{settings.gateway_base}/{workspace}/{row.name}"
    return Service(
        name=row.name,
        workspace=workspace,
        state=ServiceState(row.state),
        reason=row.reason,
        target=row.target,
        scoring_uri=f"{address}/score",
        swagger_uri=f"{address}/swagger.json",
        generation=row.generation,
        observed_generation=row.observed_generation,
        revisions=[await _revision(session, revision) for revision in known],
        replicas=[replica_contract(replica, names[replica.revision_id]) for replica in replicas],
        deployment_config=DeploymentConfig(**shown.deployment_config),
        inference_config=InferenceConfig(**shown.inference_config),
        description=row.description,
        tags=row.tags,
        properties=row.properties,
        operation=str(row.operation_id) if row.operation_id else None,
        created_at=row.created_at,
        created_by=row.created_by,
        etag=etag(row),
    )


def etag(service: ServiceTable) -> str:
    """What tells this state of a service from others."""
    return f'"{service.row_version}"'


async def _revision(session: AsyncSession, row: RevisionTable) -> Revision:
    version = await session.get_one(EnvironmentVersionTable, row.environment_version_id)
    environment = await session.get_one(EnvironmentTable, version.environment_id)
    return Revision(
        name=row.name,
        models=row.models,
        environment=f"{environment.name}:{version.version}",
        image=row.image,
        inference_config=InferenceConfig(**row.inference_config),
        deployment_config=DeploymentConfig(**row.deployment_config),
        traffic=row.traffic,
        served_at=row.served_at,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def replica_contract(row: ReplicaTable, revision: str) -> Replica:
    """A replica as it goes over the wire."""
    return Replica(
        name=row.name,
        revision=revision,
        node=row.node,
        state=ReplicaState(row.state),
        reason=row.reason,
        url=row.url,
        restarts=row.restarts,
        exit_code=row.exit_code,
        log_tail=row.log_tail,
        started_at=row.started_at,
    )


async def tell_of_change(session: AsyncSession, service: ServiceTable, *, back_to: str | None) -> None:
    """Say that an update or a rollback is done; a first deployment is told by the service's state."""
    if back_to is not None:
        await _emit(session, service, "service.rolled_back", to=back_to)
    elif service.generation > 1:
        await _emit(session, service, "service.updated", generation=service.generation)


async def _emit(session: AsyncSession, service: ServiceTable, name: str, **payload: object) -> None:
    await events.emit(session, name, workspace_id=service.workspace_id, subject=service.subject, **payload)
