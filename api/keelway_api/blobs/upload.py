"""Bytes on their way in: cut into parts, hashed as they come, kept only when all of them are right.

An upload that broke off goes on behind the parts that are stored: those are read again for the digest, not sent again.
No transaction is open while bytes flow.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import anyio.to_thread
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.blobs import garbage
from keelway_api.blobs.objects import StoredBlob, part_key
from keelway_api.blobs.store import BlobStore
from keelway_api.blobs.tables import BlobTable, BlobUploadTable
from keelway_api.db import Sessions, forgo_sync
from keelway_api.errors import DigestMismatch, OffsetMismatch, UploadTakenOver

PART_BYTES = 8 * 2**20
PARTS_AT_ONCE = 2  # each holds a part in memory, as does the one that comes in
NOTE_EVERY_S = 0.5
FIRST_EPOCH = 1
TAKEN_OVER = "Somebody sends these bytes again with the same token; this connection is too late."


@dataclass(frozen=True)
class Announced:
    """What somebody said they would send, and the token they said it with."""

    sha256: str
    size_bytes: int
    token_id: str


async def received_bytes(session: AsyncSession, announced: Announced) -> int:
    """How much of an upload is stored already: where to go on."""
    row = await session.scalar(_row(announced))
    return row.received_bytes if row else 0


async def begin(session: AsyncSession, announced: Announced, *, offset: int) -> BlobUploadTable:
    """The upload's row for a sender who starts at `offset`; whoever sent before is stopped by the raised epoch.

    Raises OffsetMismatch when that is not where a stored part ends.
    """
    keys = {"token_id": announced.token_id, "sha256": announced.sha256, "size_bytes": announced.size_bytes}
    made = insert(BlobUploadTable).values(**keys, part_bytes=PART_BYTES, epoch=FIRST_EPOCH, part_epochs=[])
    # One statement: between an insert that found the row and a look at it, another sender may have ended it.
    raised = {"epoch": BlobUploadTable.epoch + 1, "updated_at": func.now()}
    taken = made.on_conflict_do_update(index_elements=list(keys), set_=raised).returning(BlobUploadTable)
    row = (await session.scalars(taken, execution_options={"populate_existing": True})).one()
    if offset > row.received_bytes or (offset % row.part_bytes and offset < row.size_bytes):
        raise OffsetMismatch(offset, row.received_bytes)
    row.part_epochs = row.part_epochs[: -(-offset // row.part_bytes)]
    return row


class Receiver:
    """One sender's bytes, from the wire into the store."""

    def __init__(self, sessions: Sessions, store: BlobStore, row: BlobUploadTable) -> None:
        self._sessions = sessions
        self._store = store
        self._row = row
        self._part_epochs = list(row.part_epochs)
        self._sending: deque[asyncio.Task[None]] = deque()
        self._hash = hashlib.sha256()
        self._noted_parts = len(row.part_epochs)
        self._has_news, self._has_ended = asyncio.Event(), asyncio.Event()

    async def run(self, body: AsyncIterator[bytes]) -> StoredBlob:
        """Store what is still to come. Raises DigestMismatch, UploadTakenOver, DependencyAway."""
        await self._hash_stored()
        noting = asyncio.create_task(self._note_on())
        try:
            await self._receive(body, noting)
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            self._has_ended.set()
            self._has_news.set()
            await asyncio.gather(noting, return_exceptions=True)
        return self._stored()

    async def _receive(self, body: AsyncIterator[bytes], noting: asyncio.Task[None]) -> None:
        row, number = self._row, len(self._part_epochs)
        left = row.size_bytes - self._received_bytes
        parts = _Parts(body, max(1, min(row.part_bytes, row.size_bytes)))
        async for part in parts:
            left -= len(part)
            await anyio.to_thread.run_sync(self._hash.update, part)
            if left <= 0:
                self._check(left)
            await self._send(part_key(row.sha256, row.id, number, row.epoch), part, parts)
            number += 1
            if noting.done():
                noting.result()
        self._check(left)
        await asyncio.gather(*self._sending)

    async def _hash_stored(self) -> None:
        """An earlier sender's bytes count towards the digest like ours."""
        async for chunk in await self._store.open(self._stored().pieces(0, self._received_bytes)):
            await anyio.to_thread.run_sync(self._hash.update, chunk)

    async def _send(self, key: str, part: memoryview, parts: _Parts) -> None:
        if len(self._sending) >= PARTS_AT_ONCE:
            await self._sending.popleft()
        before = self._sending[-1] if self._sending else None
        self._sending.append(asyncio.create_task(self._store_part(key, part, parts, before)))

    async def _store_part(self, key: str, part: memoryview, parts: _Parts, before: asyncio.Task[None] | None) -> None:
        """Once a part and all before it are stored, it need not be sent again."""
        await self._store.put(key, part)
        parts.give_back(part)
        if before:
            await before
        self._part_epochs.append(self._row.epoch)
        self._has_news.set()

    async def _note_on(self) -> None:
        """Write down how far it got, now and then, and at the end: not for each part, which costs more than sending it.

        What is stored and not noted is sent again by whoever goes on with an upload. Raises UploadTakenOver.
        """
        while not self._has_ended.is_set():
            await self._has_news.wait()
            self._has_news.clear()
            await self._note()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_ended.wait(), NOTE_EVERY_S)
        await self._note()

    async def _note(self) -> None:
        part_epochs = list(self._part_epochs)
        if len(part_epochs) == self._noted_parts or self._row.size_bytes <= self._row.part_bytes:
            return
        async with self._sessions.begin() as session:
            await forgo_sync(session)
            await _progress(session, self._row, part_epochs)
        self._noted_parts = len(part_epochs)

    @property
    def _received_bytes(self) -> int:
        return min(len(self._part_epochs) * self._row.part_bytes, self._row.size_bytes)

    def _check(self, left: int) -> None:
        row, actual = self._row, self._hash.hexdigest()
        if left or actual != row.sha256:
            what = "another sha256" if left == 0 else f"{'fewer' if left > 0 else 'more'} bytes than announced"
            raise DigestMismatch(f"The body has {what}.", expected=row.sha256, actual=actual, size_bytes=row.size_bytes)

    def _stored(self) -> StoredBlob:
        row = self._row
        return StoredBlob(row.sha256, row.size_bytes, row.id, row.part_bytes, tuple(self._part_epochs))


class _Parts:
    """A body in pieces of `part_bytes`, the last one shorter; one empty piece for an empty body.

    A piece lies in memory that is used again once it is given back, so that a huge file needs no more than a large one.
    """

    def __init__(self, body: AsyncIterator[bytes], part_bytes: int) -> None:
        self._body, self._part_bytes = body, part_bytes
        self._free: list[memoryview] = []

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        buffer, filled, is_empty = self._buffer(), 0, True
        async for chunk in self._body:
            rest = memoryview(chunk)
            while rest:
                taken = min(len(rest), self._part_bytes - filled)
                buffer[filled : filled + taken] = rest[:taken]
                filled, rest = filled + taken, rest[taken:]
                if filled == self._part_bytes:
                    yield buffer
                    buffer, filled, is_empty = self._buffer(), 0, False
        if filled or is_empty:
            yield buffer[:filled]

    def give_back(self, part: memoryview) -> None:
        """Nobody reads this piece any more."""
        if len(part) == self._part_bytes:
            self._free.append(part)

    def _buffer(self) -> memoryview:
        return self._free.pop() if self._free else memoryview(bytearray(self._part_bytes))


async def _progress(session: AsyncSession, row: BlobUploadTable, part_epochs: list[int]) -> None:
    values = {"part_epochs": part_epochs, "updated_at": func.now()}
    if await session.scalar(update(BlobUploadTable).where(*_same(row)).values(values).returning(BlobUploadTable.id)):
        return
    raise UploadTakenOver(TAKEN_OVER)


async def keep(session: AsyncSession, upload: BlobUploadTable, blob: StoredBlob) -> None:
    """The bytes are right: they are a blob from now on, unless somebody else's upload of the same came first."""
    if not await _end(session, upload):
        raise UploadTakenOver(TAKEN_OVER)
    place = {"upload_id": blob.upload_id, "part_bytes": blob.part_bytes, "part_epochs": list(blob.part_epochs)}
    added = insert(BlobTable).values(sha256=blob.sha256, size_bytes=blob.size_bytes, **place)
    await session.execute(added.on_conflict_do_nothing())
    row = await session.get_one(BlobTable, blob.sha256, with_for_update=True, populate_existing=True)
    row.condemned_at = None
    if row.upload_id != blob.upload_id and row.damaged_at is None:
        await garbage.add(session, blob.sha256, blob.upload_id)
        return
    if row.upload_id != blob.upload_id:
        await garbage.add(session, row.sha256, row.upload_id)
        row.upload_id, row.part_bytes, row.part_epochs = blob.upload_id, blob.part_bytes, list(blob.part_epochs)
        row.damaged_at, row.verified_at = None, func.now()
    if upload.epoch > FIRST_EPOCH:
        await garbage.add(session, blob.sha256, blob.upload_id, kept_epochs=blob.part_epochs)


async def discard(session: AsyncSession, upload: BlobUploadTable) -> None:
    """The bytes are wrong: none of them is kept, unless somebody else goes on with this upload already."""
    if await _end(session, upload):
        await garbage.add(session, upload.sha256, upload.id)


async def expire(session: AsyncSession, age: timedelta) -> int:
    """Give up uploads that nobody went on with for so long."""
    gone = delete(BlobUploadTable).where(BlobUploadTable.updated_at < func.now() - age)
    rows = (await session.execute(gone.returning(BlobUploadTable.id, BlobUploadTable.sha256))).all()
    for row in rows:
        await garbage.add(session, row.sha256, row.id)
    return len(rows)


async def _end(session: AsyncSession, upload: BlobUploadTable) -> bool:
    ended = delete(BlobUploadTable).where(*_same(upload)).returning(BlobUploadTable.id)
    return await session.scalar(ended) is not None


def _same(upload: BlobUploadTable):
    return (BlobUploadTable.id == upload.id, BlobUploadTable.epoch == upload.epoch)


def _row(announced: Announced):
    return select(BlobUploadTable).where(
        BlobUploadTable.token_id == announced.token_id,
        BlobUploadTable.sha256 == announced.sha256,
        BlobUploadTable.size_bytes == announced.size_bytes,
    )
