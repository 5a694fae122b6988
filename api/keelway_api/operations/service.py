"""Operations: submitted, claimed, heard of, ended. Postgres decides every race and tells every time."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.operations import (
    TERMINAL,
    Claim,
    ClaimRequest,
    Heartbeat,
    Operation,
    OperationError,
    OperationKind,
    OperationState,
    Report,
    Step,
)
from keelway_api import events, metrics, outbox
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.auth.principal import Principal
from keelway_api.bell import ring
from keelway_api.db import forgo_sync
from keelway_api.errors import InvalidRequest, NotFound, OperationNotClaimable, StaleAttempt, WrongState
from keelway_api.operations import logs
from keelway_api.operations.kinds import KINDS
from keelway_api.operations.tables import OperationTable
from keelway_api.settings import ApiSettings
from keelway_api.storable import storable
from keelway_api.workspaces import service as workspaces

OPEN = (OperationState.QUEUED, OperationState.RUNNING, OperationState.CANCELLING)
HELD = (OperationState.RUNNING, OperationState.CANCELLING)
HEARTBEAT_AT_MOST_S = 2.0  # the answer to a heartbeat is how a worker hears that somebody cancelled


async def submit(
    session: AsyncSession,
    scope: Scope,
    kind: OperationKind,
    *,
    subject: str,
    spec: dict[str, Any],
    deadline_s: float,
) -> OperationTable:
    """A queued operation and its doorbell, in the caller's transaction."""
    row = OperationTable(
        workspace_id=scope.workspace_id,
        kind=kind,
        subject=subject,
        spec=spec,
        state=OperationState.QUEUED,
        deadline_at=func.now() + timedelta(seconds=deadline_s),
        rung_at=func.now(),
        created_by=scope.principal.name,
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    await outbox.put(session, str(row.id))
    await audit.record(
        session, scope.principal, f"operation.{kind}", subject, workspace_id=scope.workspace_id, operation=str(row.id)
    )
    return row


async def claim(session: AsyncSession, operation_id: UUID, body: ClaimRequest, settings: ApiSettings) -> Claim:
    """The right to work on it: one UPDATE raises the epoch, so that only one of many callers wins.

    Who asks again with the same owner, since the answer was lost, gets the same claim. Raises OperationNotClaimable.
    """
    row = await session.scalar(
        update(OperationTable)
        .where(OperationTable.id == operation_id, OperationTable.attempts < OperationTable.max_attempts)
        .where(OperationTable.state == OperationState.QUEUED, OperationTable.deadline_at > func.now())
        .values(
            state=OperationState.RUNNING,
            epoch=OperationTable.epoch + 1,
            attempts=OperationTable.attempts + 1,
            last_seq=0,
            steps=[],
            owner=body.owner,
            node=body.node,
            lease_until=func.now() + timedelta(seconds=settings.lease_s),
            started_at=func.coalesce(OperationTable.started_at, func.now()),
        )
        .returning(OperationTable)
    )
    row = row or await _claimed_before(session, operation_id, body.owner)
    if row is None:
        raise OperationNotClaimable(f"Operation {operation_id} is not waiting for a worker.")
    kind = KINDS[row.kind]
    spec = await kind.expand(session, row)
    await _changed(session, row)
    return Claim(
        operation=await contract(session, row),
        epoch=row.epoch,
        lease_s=settings.lease_s,
        heartbeat_s=min(settings.lease_s / 3, HEARTBEAT_AT_MOST_S),
        spec=spec,
    )


async def _claimed_before(session: AsyncSession, operation_id: UUID, owner: str) -> OperationTable | None:
    wanted = select(OperationTable).where(OperationTable.id == operation_id, OperationTable.owner == owner)
    return await session.scalar(
        wanted.where(OperationTable.state == OperationState.RUNNING, OperationTable.last_seq == 0).with_for_update()
    )


async def heartbeat(session: AsyncSession, operation_id: UUID, epoch: int, settings: ApiSettings) -> Heartbeat:
    """Renew the lease. Raises StaleAttempt."""
    await forgo_sync(session)
    found = await session.execute(
        update(OperationTable)
        .where(OperationTable.id == operation_id, OperationTable.epoch == epoch, OperationTable.state.in_(HELD))
        .values(lease_until=func.now() + timedelta(seconds=settings.lease_s))
        .returning(OperationTable.state, OperationTable.lease_until)
    )
    row = found.first()
    if row is None:
        raise StaleAttempt(operation_id, epoch)
    return Heartbeat(state=OperationState(row.state), lease_until=row.lease_until)


async def report(session: AsyncSession, operation_id: UUID, body: Report) -> Operation:
    """Take over what an attempt says. A repeated report does nothing; one of an old attempt raises StaleAttempt."""
    row = await _locked(session, operation_id)
    if row.epoch != body.epoch:
        raise StaleAttempt(operation_id, body.epoch)
    if body.seq <= row.last_seq:
        return await contract(session, row)
    if row.state not in HELD:
        raise StaleAttempt(operation_id, body.epoch)
    if body.state not in {OperationState.RUNNING, *TERMINAL}:
        raise InvalidRequest("body.state", "a report says running, succeeded, failed or cancelled")
    row.last_seq = body.seq
    if body.step:
        row.steps = _with_step(row.steps, storable(body.step))
    if body.log:
        await logs.append(session, row, body.log)
    if row.state == OperationState.CANCELLING and body.state == OperationState.FAILED:
        await end(session, row, OperationState.CANCELLED)  # it was asked to stop: how it did is of no interest
    elif body.state in TERMINAL:
        await end(session, row, body.state, result=body.result, error=body.error)
    elif body.step and (progressed := KINDS[row.kind].progressed):
        await progressed(session, row)
    await _changed(session, row)
    return await contract(session, row)


async def end(
    session: AsyncSession,
    row: OperationTable,
    state: OperationState,
    *,
    result: dict[str, Any] | None = None,
    error: OperationError | None = None,
) -> None:
    """The one place where an operation becomes terminal, with all that follows from it."""
    row.state = state
    row.result = storable(result)
    row.error = storable(error.model_dump()) if error else None
    row.lease_until = None
    row.ended_at = await _now(session)
    row.steps = _with_step(row.steps, None)
    if ended := KINDS[row.kind].ended:
        await ended(session, row)
    metrics.OPERATIONS.labels(row.kind, state).inc()
    await events.emit(
        session,
        "operation.finished",
        workspace_id=row.workspace_id,
        subject=f"operations/{row.id}",
        kind=row.kind,
        state=state,
        of=row.subject,
    )
    await _changed(session, row)


async def cancel(session: AsyncSession, principal: Principal, operation_id: UUID) -> Operation:
    """Ask for the end: at once when nobody works on it, else the worker is told at its next heartbeat."""
    row = await _locked(session, operation_id)
    if row.state in TERMINAL:
        raise WrongState(f"operation {operation_id}", row.state, "an operation that has not ended")
    if not KINDS[row.kind].is_cancellable:
        raise WrongState(f"operation {operation_id}", f"a {row.kind}", "one of a kind that can be cancelled")
    await audit.record(
        session, principal, "operation.cancel", f"operations/{operation_id}", workspace_id=row.workspace_id
    )
    await request_cancel(session, row)
    return await contract(session, row)


async def request_cancel(session: AsyncSession, row: OperationTable) -> None:
    """Cancel an open operation, on behalf of a feature or a person."""
    if row.state == OperationState.QUEUED:
        await end(session, row, OperationState.CANCELLED)
    elif row.state == OperationState.RUNNING:
        row.state = OperationState.CANCELLING
        await _changed(session, row)


async def require_attempt(session: AsyncSession, operation_id: UUID, epoch: int) -> OperationTable:
    """The operation, locked, while this attempt is its current one. Raises StaleAttempt, NotFound."""
    row = await _locked(session, operation_id)
    if row.epoch != epoch or row.state not in HELD:
        raise StaleAttempt(operation_id, epoch)
    return row


async def find(session: AsyncSession, principal: Principal, operation_id: UUID) -> OperationTable:
    """An operation that this principal may see. Raises NotFound."""
    row = await session.get(OperationTable, operation_id)
    if row is None or not (principal.sees(row.workspace_id) or _is_worker(principal)):
        raise NotFound("operation", str(operation_id))
    return row


def _is_worker(principal: Principal) -> bool:
    return any(role == "worker" for role, _ in principal.grants)


async def open_on(session: AsyncSession, workspace_id: UUID, subject: str) -> list[OperationTable]:
    """Operations on `subject` that have not ended, oldest first, locked."""
    wanted = (
        select(OperationTable)
        .where(OperationTable.workspace_id == workspace_id, OperationTable.subject == subject)
        .where(OperationTable.state.in_(OPEN))
        .order_by(OperationTable.id)
        .with_for_update()
    )
    return list(await session.scalars(wanted))


def _newest(principal: Principal) -> Select[OperationTable]:
    wanted = select(OperationTable).order_by(OperationTable.id.desc())
    ids = principal.visible_workspaces
    return wanted if ids is None else wanted.where(OperationTable.workspace_id.in_(ids))


async def newest(
    session: AsyncSession,
    principal: Principal,
    *,
    workspace: str | None,
    states: list[OperationState],
    subject: str | None,
    before: UUID | None,
    limit: int,
) -> list[Operation]:
    """Operations that this principal may see, newest first."""
    wanted = _newest(principal).limit(limit)
    if workspace:
        found = await workspaces.find(session, workspace)
        if not principal.sees(found.id):
            raise NotFound("workspace", workspace)
        wanted = wanted.where(OperationTable.workspace_id == found.id)
    if states:
        wanted = wanted.where(or_(*(OperationTable.state == state for state in states)))
    if subject:
        wanted = wanted.where(OperationTable.subject == subject)
    if before:
        wanted = wanted.where(OperationTable.id < before)
    return [await contract(session, row) for row in await session.scalars(wanted)]


async def contract(session: AsyncSession, row: OperationTable) -> Operation:
    """An operation as it goes over the wire."""
    names = await workspaces.names_of(session, [row.workspace_id])
    operation = Operation(
        id=str(row.id),
        workspace=names[row.workspace_id],
        kind=OperationKind(row.kind),
        subject=row.subject,
        state=OperationState(row.state),
        epoch=row.epoch,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        steps=[Step(**step) for step in row.steps],
        result=row.result,
        error=OperationError(**row.error) if row.error else None,
        created_at=row.created_at,
        created_by=row.created_by,
        started_at=row.started_at,
        ended_at=row.ended_at,
        deadline_at=row.deadline_at,
    )
    shown = hashlib.sha256(operation.model_dump_json().encode()).hexdigest()
    return operation.model_copy(update={"etag": f'"{shown[:16]}"'})


async def _locked(session: AsyncSession, operation_id: UUID) -> OperationTable:
    # Read anew: what this session knew of it before it got the lock may have changed while it waited.
    row = await session.get(OperationTable, operation_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("operation", str(operation_id))
    return row


async def _changed(session: AsyncSession, row: OperationTable) -> None:
    await ring(session, f"operation:{row.id}")


async def _now(session: AsyncSession) -> datetime:
    return (await session.execute(select(func.now()))).scalar_one()


def _with_step(steps: list[Any], name: str | None) -> list[Any]:
    """The steps with the last one ended now and, if named, a new one begun. A repeated name goes on."""
    now = datetime.now(UTC).isoformat()
    if steps and name == steps[-1]["name"]:
        return steps
    ended = [*steps[:-1], {**steps[-1], "ended_at": steps[-1]["ended_at"] or now}] if steps else []
    return [*ended, {"name": name, "started_at": now, "ended_at": None}] if name else ended
