"""Wake-ups over LISTEN/NOTIFY: who waits for a change looks again at once, in whichever API process it sits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

log = structlog.get_logger()

CHANNEL = "keelway"
LOOK_AGAIN_S = 2.0  # a notification can be missed while the listener reconnects
Found = TypeVar("Found")


async def ring(session: AsyncSession, topic: str) -> None:
    """Wake everybody who waits for `topic`, when (and if) this transaction commits."""
    await session.execute(text("SELECT pg_notify(:channel, :topic)"), {"channel": CHANNEL, "topic": topic})


class Bell:
    """Listens on one connection and passes each topic on to its waiters."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url).set(drivername="postgresql")
        self._conninfo = url.render_as_string(hide_password=False)
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._closing = asyncio.Event()

    @contextlib.contextmanager
    def listening(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set by every ring of `topic` while inside."""
        event = asyncio.Event()
        self._waiters.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            waiters = self._waiters[topic]
            waiters.discard(event)
            if not waiters:
                del self._waiters[topic]

    async def until(self, topic: str, wait_s: float, look: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """What `look` finds, asked again on every ring; None when `wait_s` passed without it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        with self.listening(topic) as rung:
            while True:
                rung.clear()
                found = await look()
                left = deadline - loop.time()
                if found is not None or left <= 0 or self._closing.is_set():
                    return found
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rung.wait(), min(left, LOOK_AGAIN_S))

    async def run(self) -> None:
        """Listen for ever; a lost connection is made again, and everybody looks again then."""
        while True:
            try:
                async for topic in self._topics():
                    self._wake(topic)
            except (psycopg.Error, OSError) as error:
                log.warning("bell connection lost", error=type(error).__name__)
                await asyncio.sleep(0.5)

    @property
    def is_closing(self) -> bool:
        """True once this process is about to stop."""
        return self._closing.is_set()

    def close(self) -> None:
        """Send all waiters home, so that long polls do not hold up a stop."""
        self._closing.set()
        for topic in list(self._waiters):
            self._wake(topic)

    async def _topics(self) -> AsyncIterator[str]:
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True, connect_timeout=5)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            for topic in list(self._waiters):
                yield topic
            async for notification in connection.notifies():
                yield notification.payload

    def _wake(self, topic: str) -> None:
        for event in self._waiters.get(topic, ()):
            event.set()
