"""Uploads take turns, and who stalls loses theirs: slow clients must not hold the API's memory and threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
from starlette.types import Message, Receive

from keelway_api.errors import TooBusy, UploadStalled


class Turns:
    """At most `at_once` uploads at a time, each of which must send something every `idle_s` seconds."""

    def __init__(self, at_once: int, idle_s: float) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._idle_s = idle_s

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

        async def patient() -> Message:
            try:
                async with asyncio.timeout(self._idle_s):
                    return await receive()
            except TimeoutError as error:
                raise UploadStalled(self._idle_s) from error

        return patient

    async def watched(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks. Raises UploadStalled when the next one does not come in time."""
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    chunk = await anext(body)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise UploadStalled(self._idle_s) from error
            yield chunk
