"""Uploads take turns, and who stalls loses theirs: slow clients must not hold the API's memory and threads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.types import Message, Receive

from keelway_api.errors import TooBusy, UploadStalled

WINDOW_IDLES = 2  # a minute, by default
Came = TypeVar("Came")


class Turns:
    """At most `at_once` uploads at a time, each of which must send something every `idle_s` seconds.

    Over some of those times it must be `min_bytes_per_s`: a byte now and then would keep a turn for ever.
    """

    def __init__(self, at_once: int, idle_s: float, *, min_bytes_per_s: int) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._idle_s, self._min_bytes_per_s = idle_s, min_bytes_per_s

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a turn, not for ever. Raises TooBusy."""
        borrower = object()
        try:
            async with asyncio.timeout(self._idle_s):
                await self._limiter.acquire_on_behalf_of(borrower)
        except TimeoutError as error:
            raise TooBusy(f"{self._limiter.total_tokens} uploads are under way.") from error
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(borrower)

    def heard(self, receive: Receive) -> Receive:
        """The same messages. Raises UploadStalled when the next one does not come in time."""
        pace = self._pace()

        async def patient() -> Message:
            return await pace.wait(receive, lambda message: len(message.get("body", b"")))

        return patient

    async def watched(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks. Raises UploadStalled when the next one does not come in time."""
        pace = self._pace()
        while True:
            try:
                chunk = await pace.wait(lambda: anext(body), len)
            except StopAsyncIteration:
                return
            yield chunk

    def _pace(self) -> Pace:
        return Pace(self._idle_s, self._min_bytes_per_s)


class Pace:
    """How fast one sender is. Only the time that is spent waiting for them counts, not what we do with the bytes."""

    def __init__(self, idle_s: float, min_bytes_per_s: int) -> None:
        self._idle_s, self._min_bytes_per_s = idle_s, min_bytes_per_s
        self._window_s = WINDOW_IDLES * idle_s
        self._waited_s, self._came_bytes = 0.0, 0

    async def wait(self, more: Callable[[], Awaitable[Came]], size: Callable[[Came], int]) -> Came:
        """What comes next. Raises UploadStalled when nothing does, or too little did since the last window ended."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._idle_s):
                came = await more()
        except TimeoutError as error:
            raise UploadStalled(self._idle_s) from error
        self._waited_s += time.monotonic() - began
        self._came_bytes += size(came)
        if self._waited_s >= self._window_s:
            self._end_window()
        return came

    def _end_window(self) -> None:
        rate = self._came_bytes / self._waited_s
        if rate < self._min_bytes_per_s:
            slow = f"Only {rate:.0f} bytes came a second; at least {self._min_bytes_per_s} are asked for."
            raise UploadStalled(self._idle_s, slow)
        self._waited_s, self._came_bytes = 0.0, 0
