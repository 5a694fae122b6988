"""The clock: what must happen although nobody asks. One API process at a time runs it, under an advisory lock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog
from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from keelway.contracts.operations import OperationError, OperationState
from keelway_api import idempotency, outbox
from keelway_api.bell import ring
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import DependencyAway, is_outage
from keelway_api.operations import logs, service
from keelway_api.operations.tables import OperationTable
from keelway_api.settings import ApiSettings

log = structlog.get_logger()

LOCK = 0x6B65656C  # "keel"
RING_AGAIN_S, RING_AT_LEAST_S, MAX_DOUBLINGS = 10, 300, 5
BATCH = 200
Task = Callable[[AsyncSession], Awaitable[None]]


class Clock:
    """Ticks while it holds the lock. Leases are judged only after one whole lease of unbroken ticking.

    After an outage of the API or of Postgres every heartbeat is late through no fault of its worker: judging at once
    would run all work twice.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        store: BlobStore,
        settings: ApiSettings,
        *,
        tasks: Sequence[Task],
        beside: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._store = store
        self._settings = settings
        self._tasks = tasks
        self._beside = beside
        self._ticking_since: float | None = None

    async def run(self) -> None:
        """Try for the lock for ever; tick while it is held."""
        while True:
            try:
                async with self._engine.connect() as connection:
                    await self._tick_while_leader(connection)
            except Exception as error:
                if not is_outage(error):
                    log.error("clock failed", exc_info=error)
            self._ticking_since = None
            await asyncio.sleep(1)

    async def _tick_while_leader(self, connection: AsyncConnection) -> None:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        if not (await connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK})).scalar():
            await asyncio.sleep(self._settings.clock_s)
            return
        beside = [asyncio.ensure_future(work()) for work in (self._archive, *self._beside)]
        try:
            while True:
                await connection.execute(text("SELECT 1"))  # the lock lives as long as this connection does
                await self.tick()
                await asyncio.sleep(self._settings.clock_s)
        finally:
            for work in beside:
                work.cancel()
            await connection.invalidate()  # closing it is what gives the lock back, whatever state it is in

    async def tick(self) -> None:
        """One round. Raises what the database raises: the next round starts anew."""
        self._ticking_since = self._ticking_since or time.monotonic()
        await self._each(_end_overdue, OperationTable.deadline_at < func.now())
        await self._each(
            _ring_again, OperationTable.state == OperationState.QUEUED, OperationTable.rung_at < _rung_long_ago()
        )
        for task in (idempotency.forget_old, *self._tasks):
            await self._do(task)
        if time.monotonic() - self._ticking_since >= self._settings.lease_s:
            await self._each(_requeue_lapsed, OperationTable.lease_until < func.now())

    async def _do(self, task: Task) -> None:
        """One task in a transaction of its own: one that fails, or waits too long for a lock, stops no other."""
        try:
            async with self._sessions.begin() as session:
                await task(session)
        except Exception as error:
            if is_outage(error):
                raise
            log.error("a task of the clock failed", task=getattr(task, "__name__", repr(task)), exc_info=error)

    async def _each(
        self, do: Callable[[AsyncSession, OperationTable], Awaitable[None]], *which: ColumnElement[bool]
    ) -> None:
        """Do it to every open operation of that kind, each in its own transaction: one that fails stops no other.

        What others work on at this moment comes next time.
        """
        wanted = select(OperationTable.id).where(OperationTable.ended_at.is_(None), *which).order_by(OperationTable.id)
        async with self._sessions() as session:
            ids = (await session.scalars(wanted.limit(BATCH))).all()
        for operation_id in ids:
            try:
                async with self._sessions.begin() as session:
                    still = select(OperationTable).where(
                        OperationTable.id == operation_id, OperationTable.ended_at.is_(None)
                    )
                    row = await session.scalar(still.where(*which).with_for_update(skip_locked=True))
                    if row is not None:
                        await do(session, row)
            except Exception as error:
                if is_outage(error):
                    raise
                log.error("an operation could not be looked after", operation=str(operation_id), exc_info=error)

    async def _archive(self) -> None:
        """Put logs into the object store, for ever. Beside the ticks: a store that hangs must not stop the clock."""
        while True:
            try:
                await logs.archive_ended(self._sessions, self._store)
            except DependencyAway:
                log.warning("object store away, logs stay in the database")
            except Exception as error:
                if not is_outage(error):
                    log.error("logs could not be archived", exc_info=error)
            await asyncio.sleep(self._settings.clock_s)


async def _end_overdue(session: AsyncSession, row: OperationTable) -> None:
    error = OperationError(code="deadline-passed", message="It did not end in the time it was given.")
    await service.end(session, row, OperationState.FAILED, error=error)


async def _requeue_lapsed(session: AsyncSession, row: OperationTable) -> None:
    log.warning("lease lapsed", operation=str(row.id), owner=row.owner, attempt=row.attempts)
    if row.state == OperationState.CANCELLING:
        await service.end(session, row, OperationState.CANCELLED)
    elif row.attempts >= row.max_attempts:
        message = f"The worker was lost in each of {row.attempts} attempts."
        error = OperationError(code="worker-lost", message=message, details={"owner": row.owner})
        await service.end(session, row, OperationState.FAILED, error=error)
    else:
        row.state, row.lease_until, row.owner, row.rings = OperationState.QUEUED, None, None, 0
        await _ring_again(session, row)


def _rung_long_ago() -> ColumnElement[datetime]:
    """A doorbell can be lost between Redis and a worker; when nobody comes, it is rung ever more seldom."""
    doublings = func.least(OperationTable.rings - 1, MAX_DOUBLINGS)
    pause_s = func.least(RING_AGAIN_S * func.pow(2, doublings), RING_AT_LEAST_S)
    return func.now() - pause_s * text("interval '1 second'")


async def _ring_again(session: AsyncSession, row: OperationTable) -> None:
    row.rings += 1
    row.rung_at = (await session.execute(select(func.now()))).scalar_one()
    await outbox.put(session, str(row.id))
    await ring(session, f"operation:{row.id}")
