"""Ends a worker that is deaf: messages wait, a process is free, and nothing is heard."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery, signals
from celery.worker import state

CHECK_S = 15.0
DEAF_AFTER_S = 60.0
EXIT_DEAF = 70

logger = structlog.get_logger(__name__)


class Watchdog:
    """Looks at the queues over a connection of its own.

    A consumer can lose Redis in ways that it never notices. Whoever started the worker starts it again.
    """

    def __init__(self, app: Celery, queues: Sequence[str], concurrency: int) -> None:
        self._app = app
        self._queues = queues
        self._concurrency = concurrency
        self._deaf_since: float | None = None
        self._heard = -1

    def install(self) -> None:
        """Watch from the moment the worker is ready."""
        signals.worker_ready.connect(self._start, weak=False)

    def check(self, waiting: int, *, now: float) -> bool:
        """Whether the worker has been deaf for too long, with so many messages waiting."""
        heard = sum(state.total_count.values())
        is_busy = len(state.active_requests) >= self._concurrency
        if not waiting or is_busy or heard != self._heard:
            self._heard = heard
            self._deaf_since = None
            return False
        self._deaf_since = self._deaf_since or now
        return now - self._deaf_since >= DEAF_AFTER_S

    def _start(self, **_: Any) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(CHECK_S)
            if self.check(self._waiting(), now=time.monotonic()):
                self._end()

    def _waiting(self) -> int:
        """How many messages wait; 0 when Redis itself is away, as then nobody could hear more."""
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1, timeout=5)
                client = connection.default_channel.client
                return sum(client.llen(queue) for queue in self._queues)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look will tell
            logger.info("redis did not answer the watchdog", problem=str(error))
            return 0

    def _end(self) -> None:
        logger.error("this worker hears nothing although messages wait; it ends to be started again")
        while state.active_requests:
            time.sleep(1)
        os._exit(EXIT_DEAF)
