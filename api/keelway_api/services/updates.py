"""Changing a service: a new revision beside the one that serves, or an old one once more."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.services import DeploymentConfig, InferenceConfig, Rollback, Service, ServiceUpdate
from keelway_api import inference
from keelway_api.auth.dependencies import Scope
from keelway_api.errors import Immutable, NotFound, WrongState
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.preconditions import IfMatch
from keelway_api.services import queries, revisions, service
from keelway_api.services.tables import RevisionTable, ServiceTable
from keelway_api.settings import ApiSettings


async def update(
    session: AsyncSession, scope: Scope, name: str, body: ServiceUpdate, settings: ApiSettings, precondition: IfMatch
) -> tuple[Service, OperationTable | None]:
    """Change what is said of it at once, and what runs by an operation; None when nothing of that is another.

    Raises NotFound, PreconditionFailed, Immutable, WrongState while something else brings it up or down, and what
    `service.create` raises.
    """
    row, under_way = await _locked(session, scope, name, precondition)
    _describe(row, body)
    known = revisions.shown(await queries.revisions_of(session, row.id))
    operation = None
    if body.changes_what_runs:
        _require_idle(row, under_way)
        models = known.models if body.models is None else body.models
        said = body.inference_config or InferenceConfig(**known.inference_config)
        config = body.deployment_config or DeploymentConfig(**known.deployment_config)
        used = await inference.resolve(session, scope, models, said)
        revisions.require_runnable(used, config)
        if not _is_the_same(known, used, config):
            operation = await _revise(session, scope, row, used, config, settings)
    await session.flush()
    await service.refresh(session, row, settings)
    return await service.contract(session, row, scope.workspace, settings), operation


async def rollback(
    session: AsyncSession, scope: Scope, name: str, body: Rollback, settings: ApiSettings, precondition: IfMatch
) -> Service:
    """Have it run once more what an earlier revision ran: the one before, unless another is named.

    Raises NotFound, PreconditionFailed, WrongState, and what `service.create` raises of what is there no longer.
    """
    row, under_way = await _locked(session, scope, name, precondition)
    _require_idle(row, under_way)
    back_to = _earlier(name, await queries.revisions_of(session, row.id), body.revision)
    return await _repeat(session, scope, row, back_to, settings, back_to=back_to.name)


async def restart(
    session: AsyncSession, scope: Scope, name: str, settings: ApiSettings, precondition: IfMatch
) -> Service:
    """Have it run what it runs in new replicas, which take over when they answer.

    Raises NotFound, PreconditionFailed, WrongState, and what `service.create` raises of what is there no longer.
    """
    row, under_way = await _locked(session, scope, name, precondition)
    _require_idle(row, under_way)
    known = revisions.shown(await queries.revisions_of(session, row.id))
    return await _repeat(session, scope, row, known, settings)


async def _repeat(
    session: AsyncSession,
    scope: Scope,
    row: ServiceTable,
    known: RevisionTable,
    settings: ApiSettings,
    *,
    back_to: str | None = None,
) -> Service:
    """A new revision of what one holds."""
    used = await inference.resolve(session, scope, known.models, InferenceConfig(**known.inference_config))
    config = DeploymentConfig(**known.deployment_config)
    revisions.require_runnable(used, config)
    await _revise(session, scope, row, used, config, settings, back_to=back_to)
    await service.refresh(session, row, settings)
    return await service.contract(session, row, scope.workspace, settings)


async def _locked(
    session: AsyncSession, scope: Scope, name: str, precondition: IfMatch
) -> tuple[ServiceTable, Sequence[OperationTable]]:
    """The service and what is under way on it: operations first, in the order in which reports lock them."""
    found = await queries.service_named(session, scope.workspace_id, name)
    under_way = await operations.open_on(session, scope.workspace_id, found.subject)
    row = await queries.service_locked(session, found.id)
    if row is None:
        raise NotFound("service", name)
    precondition.check(service.etag(row))
    if row.is_deleting:
        raise WrongState(f"Service {name}", "being deleted", "one that stays")
    return row, under_way


def _require_idle(row: ServiceTable, under_way: Sequence[OperationTable]) -> None:
    if under_way:
        doing = f"being changed by operation {under_way[0].id}"
        raise WrongState(f"Service {row.name}", doing, "one that nothing changes: wait for it, or cancel it")


def _describe(row: ServiceTable, body: ServiceUpdate) -> None:
    if body.description is not None:
        row.description = body.description
    if body.tags is not None:
        row.tags = body.tags
    if body.properties is not None:
        changed = [key for key, value in body.properties.items() if row.properties.get(key, value) != value]
        if changed:
            raise Immutable(f"service {row.name}", sorted(changed))
        row.properties = {**row.properties, **body.properties}


def _is_the_same(known: RevisionTable, used: inference.Inference, config: DeploymentConfig) -> bool:
    """By what their configs say: one that an earlier release kept may lack what is new since, and means its default."""
    kept = (InferenceConfig(**known.inference_config), DeploymentConfig(**known.deployment_config))
    asked = (InferenceConfig(**used.exact_config), config)
    return known.traffic > 0 and known.models == used.models and kept == asked


async def _revise(
    session: AsyncSession,
    scope: Scope,
    row: ServiceTable,
    used: inference.Inference,
    config: DeploymentConfig,
    settings: ApiSettings,
    *,
    back_to: str | None = None,
) -> OperationTable:
    row.generation += 1
    row.failure = ""
    return await revisions.deploy(session, scope, row, used, config, settings, back_to=back_to)


def _earlier(name: str, known: Sequence[RevisionTable], wanted: str | None) -> RevisionTable:
    candidates = [one for one in revisions.served(known) if one.traffic == 0]
    if wanted is None:
        if not candidates:
            raise WrongState(f"Service {name}", "without a revision that served before", "one that was updated")
        return candidates[0]
    found = next((one for one in known if one.name == wanted), None)
    if found is None:
        raise NotFound("revision", wanted)
    if found not in candidates:
        state = "what serves" if found.traffic > 0 else "one that never served"
        raise WrongState(f"Revision {wanted} of {name}", state, "an earlier one that served")
    return found
