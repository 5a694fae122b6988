"""The outbox: what must be sent after a commit, and the relay that sends it at least once."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Any

import anyio.to_thread
import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy import BigInteger, Identity, UniqueConstraint, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api import metrics
from keelway_api.bell import Bell, ring
from keelway_api.db import Sessions, forgo_sync
from keelway_api.errors import is_outage
from keelway_api.settings import ApiSettings
from keelway_api.tables import Base, Created

log = structlog.get_logger()

TASK = "keelway.ring"
QUEUE = "keelway"
BATCH = 50
HIDDEN_S = 10  # a row that a dead relay had taken comes back after this


class OutboxTable(Base):
    """An operation whose workers are still to be told, on a queue; once is enough, however often it was put there."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("queue", "message"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    queue: Mapped[str]
    message: Mapped[str]
    created_at: Mapped[Created]
    next_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


async def put(session: AsyncSession, message: str, *, queue: str = QUEUE) -> None:
    """Send `message` on `queue` once this transaction is committed."""
    row = insert(OutboxTable).values(queue=queue, message=message)
    # One that a relay is just sending is sent again: its workers may have looked before this transaction.
    again = {"next_at": func.now()}
    await session.execute(row.on_conflict_do_update(index_elements=["queue", "message"], set_=again))
    await ring(session, "outbox")


def doorbell(settings: ApiSettings) -> Celery:
    """The Celery app that only sends: JSON, no results, one quick try."""
    app = Celery("keelway", broker=settings.redis_url.get_secret_value(), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_publish_retry=False,
        broker_connection_timeout=3,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 3, "max_retries": 0},
        broker_pool_limit=1,
    )
    return app


class Relay:
    """Sends what is in the outbox; several relays share the work."""

    def __init__(self, sessions: Sessions, bell: Bell, celery: Celery) -> None:
        self._sessions = sessions
        self._bell = bell
        self._celery = celery

    async def run(self) -> None:
        """Send for ever: woken by each commit that put something in, looking again now and then."""
        while True:
            try:
                sent = await self._send_batch()
            except Exception as error:
                if not is_outage(error):
                    log.error("relay failed", exc_info=error)
                sent = 0
                await asyncio.sleep(0.5)
            if sent < BATCH:
                await self._bell.until("outbox", 2.0, self._due)

    async def _due(self) -> int | None:
        with contextlib.suppress(Exception):
            async with self._sessions() as session:
                wanted = select(OutboxTable.id).where(OutboxTable.next_at <= func.now()).limit(1)
                return await session.scalar(wanted)
        return None

    async def _send_batch(self) -> int:
        """Take some rows out of sight, send them, delete what was sent: a crash in between sends twice."""
        async with self._sessions.begin() as session:
            await forgo_sync(session)
            due = (
                select(OutboxTable.id)
                .where(OutboxTable.next_at <= func.now())
                .order_by(OutboxTable.id)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            )
            taken = await session.execute(
                update(OutboxTable)
                .where(OutboxTable.id.in_(due))
                .values(next_at=func.now() + text(f"interval '{HIDDEN_S} seconds'"))
                .returning(OutboxTable.id, OutboxTable.queue, OutboxTable.message)
            )
            rows = taken.all()
        sent = [row.id for row in rows if await self._send(row.queue, row.message)]
        async with self._sessions.begin() as session:
            await forgo_sync(session)
            is_hidden = OutboxTable.next_at > func.now()  # else somebody put it there again meanwhile
            await session.execute(delete(OutboxTable).where(OutboxTable.id.in_(sent), is_hidden))
            unsent = [row.id for row in rows if row.id not in set(sent)]
            await session.execute(
                update(OutboxTable)
                .where(OutboxTable.id.in_(unsent))
                .values(next_at=func.now() + text("interval '1 second'"))
            )
        return len(sent)

    async def _send(self, queue: str, message: str) -> bool:
        try:
            await anyio.to_thread.run_sync(lambda: self._publish(queue, message))
        except (BrokerError, RedisError, OSError) as error:
            metrics.RINGS.labels("failed").inc()
            log.warning("doorbell not reachable", error=type(error).__name__)
            return False
        metrics.RINGS.labels("sent").inc()
        return True

    def _publish(self, queue: str, message: str) -> Any:
        return self._celery.send_task(TASK, args=[message], queue=queue, retry=False)
