"""Revisions of a service: one for each deployment, update and rollback, kept as long as one may go back to it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.operations import OperationKind
from keelway.contracts.services import DeploymentConfig
from keelway_api.auth.dependencies import Scope
from keelway_api.environments import service as environments
from keelway_api.errors import InvalidRequest, NeedsImage
from keelway_api.inference import Inference
from keelway_api.models import service as models
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.services import queries
from keelway_api.services.tables import RevisionTable, ServiceTable
from keelway_api.settings import ApiSettings
from keelway_api.workspaces import service as workspaces

KEPT = 20


def require_runnable(used: Inference, config: DeploymentConfig) -> None:
    """Raises NeedsImage, InvalidRequest for what the target cannot run."""
    target = f"target {config.compute_type}"
    has_steps = bool(used.config.extra_docker_file_steps)
    if config.resources is not None:
        if has_steps:  # its image would be the service's alone: a replica runs in its environment's
            field = "body.inference_config.extra_docker_file_steps"
            raise InvalidRequest(field, "are for packages; a service takes an environment with a Dockerfile of its own")
        return
    environments.require_buildable(used.environment, target)
    if has_steps:
        raise NeedsImage(used.exact_config["environment"], target, "comes with extra_docker_file_steps")


async def deploy(
    session: AsyncSession,
    scope: Scope,
    service: ServiceTable,
    used: Inference,
    config: DeploymentConfig,
    settings: ApiSettings,
    *,
    back_to: str | None = None,
) -> OperationTable:
    """A new revision of a locked service, and the operation that brings it up. `back_to`: the revision it repeats."""
    before = await queries.revisions_of(session, service.id)
    revision = RevisionTable(
        service_id=service.id,
        number=1 + max((one.number for one in before), default=0),
        models=used.models,
        inference_config=used.exact_config,
        deployment_config=config.model_dump(),
        environment_version_id=used.environment[0].id,
        snapshot_id=used.snapshot.id,
        num_replicas=config.num_replicas,
        created_by=scope.principal.name,
    )
    session.add(revision)
    await session.flush()
    await _prune(session, before)
    await note_uses(session, service, coming=revision.id)
    operation = await operations.submit(
        session,
        scope,
        OperationKind.DEPLOY,
        subject=service.subject,
        spec={
            "service_id": str(service.id),
            "revision_id": str(revision.id),
            "environment_version_id": str(revision.environment_version_id),
            "back_to": back_to,
        },
        deadline_s=settings.operation_deadline_s,
    )
    service.operation_id = operation.id
    await session.flush()
    return operation


async def _prune(session: AsyncSession, revisions: Sequence[RevisionTable]) -> None:
    """Forget the oldest of those that take no traffic."""
    idle = [one.id for one in revisions if one.traffic == 0][KEPT:]
    if idle:
        await session.execute(delete(RevisionTable).where(RevisionTable.id.in_(idle)))


async def note_uses(session: AsyncSession, service: ServiceTable, *, coming: UUID | None = None) -> None:
    """Its models may not be deleted: those that serve or served, and those of a revision that is being brought up."""
    scope = await workspaces.own_scope(session, service.workspace_id)
    used = {
        reference
        for revision in await queries.revisions_of(session, service.id)
        if revision.served_at is not None or revision.id == coming
        for reference in revision.models
    }
    await models.drop_uses(session, service.workspace_id, service.subject)
    for reference in sorted(used):
        await models.add_use(session, await models.find_version(session, scope, reference), service.subject)


async def serve(session: AsyncSession, service: ServiceTable, revision: RevisionTable) -> None:
    """All traffic goes to this revision, from now on."""
    revision.served_at = func.now()
    await _lead_to(session, service, revision)
    await session.refresh(revision)


async def _lead_to(session: AsyncSession, service: ServiceTable, revision: RevisionTable) -> None:
    for other in await queries.revisions_of(session, service.id):
        other.traffic = 100 if other.id == revision.id else 0
    service.target = DeploymentConfig(**revision.deployment_config).compute_type
    await session.flush()


async def give_back(session: AsyncSession, service: ServiceTable, failed: RevisionTable) -> None:
    """A revision that did not come up takes no traffic; the one before goes on with all of it, if it runs still."""
    had_traffic, failed.traffic = failed.traffic > 0, 0
    if not had_traffic:
        return
    failed.served_at = None
    for before in served(await queries.revisions_of(session, service.id)):
        if before.id != failed.id and await queries.wanted_replicas(session, before.id):
            await _lead_to(session, service, before)
            return


def served(revisions: Sequence[RevisionTable]) -> list[RevisionTable]:
    """Those that have taken traffic, the last first."""
    times = [(one.served_at, one) for one in revisions if one.served_at is not None]
    return [one for _, one in sorted(times, key=lambda pair: pair[0], reverse=True)]


def shown(revisions: Sequence[RevisionTable]) -> RevisionTable:
    """What a service is said to be: the revision that serves, or the newest while none does."""
    return next((one for one in revisions if one.traffic > 0), revisions[0])
