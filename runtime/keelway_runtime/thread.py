"""The one thread that runs the user's plain code: init() and every run(), one after another.

The event loop stays free for health probes, and libraries that are bound to the thread they were set up in
(SQLite connections, some GPU contexts) work.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from typing import Any, Callable, TypeVar

Result = TypeVar("Result")


class ScoringThread:
    """Runs calls in the order in which they were asked for. A daemon: a stuck call does not keep the process."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="scoring", daemon=True).start()

    async def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """What function(*args) returns or raises there; the caller's context variables go with it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        context = contextvars.copy_context()

        def run_and_report() -> None:
            try:
                outcome = (future.set_result, context.run(function, *args))
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                outcome = (future.set_exception, error)
            loop.call_soon_threadsafe(_settle, future, *outcome)

        self._calls.put(run_and_report)
        return await future

    def _work(self) -> None:
        while True:
            self._calls.get()()


def _settle(future: asyncio.Future[Any], settle: Callable[..., None], value: Any) -> None:
    if not future.done():  # else its request was cut off when the grace ended
        settle(value)
