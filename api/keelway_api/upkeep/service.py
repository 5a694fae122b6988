"""What keeps the store clean and honest, by itself and on demand."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.upkeep import DamagedBlob, GcReport, ScrubReport
from keelway_api.audit import service as audit
from keelway_api.auth.principal import Principal
from keelway_api.blobs import garbage, scrub, upload
from keelway_api.blobs.scrub import Checked
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import DependencyAway, is_outage
from keelway_api.experiments import outputs
from keelway_api.manifests import gc
from keelway_api.manifests import service as manifests
from keelway_api.models import integrity
from keelway_api.settings import ApiSettings
from keelway_api.snapshots import service as snapshots

log = structlog.get_logger()

ROUND_S = 10.0  # an answer is not to take much longer
LOST_EVERY_S = 3600.0
IDLE_S = 10.0
SCRUB_SHARE = 0.05  # of the time at most is spent reading
Result = TypeVar("Result")


class Upkeep:
    """Garbage collection and scrubbing."""

    def __init__(self, sessions: Sessions, store: BlobStore, settings: ApiSettings) -> None:
        self._sessions = sessions
        self._store = store
        self._settings = settings
        self._looked_for_lost_at = -math.inf

    async def gc(
        self, principal: Principal | None = None, *, is_dry_run: bool = False, grace_s: float | None = None
    ) -> GcReport:
        """One round. Killed at any moment, the next goes on; raises DependencyAway when the store is."""
        grace_s = self._settings.gc_grace_s if grace_s is None else grace_s
        abandoned, is_swept = await self._abandoned(is_dry_run=is_dry_run)
        async with self._sessions.begin() as session:
            count, size_bytes = await gc.unreferenced(session)
            due = await gc.unreferenced(session, condemned_for_s=grace_s)
            if not is_dry_run:
                await gc.condemn(session)
        deleted, is_complete = (due, True) if is_dry_run else await self._delete(grace_s)
        if principal and not is_dry_run:
            async with self._sessions.begin() as session:
                await audit.record(session, principal, "gc", "blobs", deleted_blobs=deleted[0], grace_s=grace_s)
        return GcReport(
            is_dry_run=is_dry_run,
            grace_s=grace_s,
            abandoned_uploads=abandoned,
            unreferenced_blobs=count,
            unreferenced_bytes=size_bytes,
            deleted_blobs=deleted[0],
            deleted_bytes=deleted[1],
            is_complete=is_complete and is_swept,
        )

    async def _abandoned(self, *, is_dry_run: bool) -> tuple[int, bool]:
        """Give up what nobody went on with, a batch at a time; how many, and whether that were all."""
        age = timedelta(seconds=self._settings.upload_keep_s)
        until, count = time.monotonic() + ROUND_S, 0
        for expire in (upload.expire, integrity.expire_uploads, snapshots.expire_uploads, outputs.expire_uploads):
            async with self._sessions() as session:  # a dry run ends without a commit
                while batch := await expire(session, age):
                    count += batch
                    if not is_dry_run:
                        await session.commit()
                    if time.monotonic() > until:
                        return count, is_dry_run  # another dry run would find the same again
        return count, True

    async def _delete(self, grace_s: float) -> tuple[tuple[int, int], bool]:
        until, blobs, size_bytes = time.monotonic() + ROUND_S, 0, 0
        while time.monotonic() < until:
            count, freed = await gc.delete_condemned(self._sessions, grace_s=grace_s)
            blobs, size_bytes = blobs + count, size_bytes + freed
            late_s = self._settings.late_writer_s
            collected = await garbage.collect(self._sessions, self._store, older_than_s=late_s)
            if not count and not collected:
                return (blobs, size_bytes), True
        return (blobs, size_bytes), False

    async def scrub(self, since: datetime | None = None) -> ScrubReport:
        """Read blobs for some seconds. Raises DependencyAway when the store is."""
        if since is None:
            await self._note_lost()
        async with self._sessions() as session:
            before = since or (await session.execute(select(func.now()))).scalar_one()
        until, checked = time.monotonic() + ROUND_S, list[Checked]()
        while time.monotonic() < until:
            found = await scrub.check_next(self._sessions, self._store, before=before)
            if found is None:
                break
            checked.append(found)
        async with self._sessions.begin() as session:
            await integrity.judge(session)
            damaged = await _damaged(session, checked)
            remaining = await scrub.left(session, before=before)
        return ScrubReport(
            since=before,
            checked_blobs=len(checked),
            checked_bytes=sum(blob.size_bytes for blob in checked),
            damaged=damaged,
            remaining_blobs=remaining,
        )

    async def _note_lost(self) -> None:
        async with self._sessions.begin() as session:
            if count := await manifests.note_lost(session):
                log.error("files have no bytes", blobs=count)
        self._looked_for_lost_at = time.monotonic()

    async def run(self) -> None:
        """Collect garbage every `gc_every_s` and read everything once in `scrub_every_s`, for ever."""
        await asyncio.gather(self._collect_for_ever(), self._scrub_for_ever())

    async def _collect_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.gc_every_s)
            await _patiently("garbage collection", self.gc)

    async def _scrub_for_ever(self) -> None:
        while True:
            started = time.monotonic()
            has_read = await _patiently("scrubbing", self._scrub_some)
            spent_s = time.monotonic() - started
            await asyncio.sleep(max(1.0, spent_s / SCRUB_SHARE) if has_read else IDLE_S)

    async def _scrub_some(self) -> bool:
        """Read what is due: one blob that was damaged, and one of all. Whether there was any."""
        if time.monotonic() - self._looked_for_lost_at > min(LOST_EVERY_S, self._settings.scrub_every_s):
            await self._note_lost()
        async with self._sessions() as session:
            now = (await session.execute(select(func.now()))).scalar_one()
        before = now - timedelta(seconds=self._settings.scrub_every_s)
        again = await scrub.check_damaged(self._sessions, self._store)
        found = await scrub.check_next(self._sessions, self._store, before=before)
        for one in (again, found):
            if one and one.damage:
                log.error("stored bytes are damaged", sha256=one.sha256, damage=one.damage)
        return bool(again or found)


async def _damaged(session: AsyncSession, checked: Sequence[Checked]) -> list[DamagedBlob]:
    found = {blob.sha256: blob for blob in checked if blob.damage}
    versions = await integrity.used_by(session, list(found))
    runs = await outputs.used_by(session, list(found))
    sources = await snapshots.used_by(session, list(found))
    return [
        DamagedBlob(
            sha256=sha256,
            size_bytes=blob.size_bytes,
            damage=blob.damage,
            used_by=[*versions.get(sha256, []), *runs.get(sha256, []), *sources.get(sha256, [])],
        )
        for sha256, blob in found.items()
        if blob.damage
    ]


async def _patiently(what: str, work: Callable[[], Awaitable[Result]]) -> Result | None:
    """Do it, and give what it gave; what is away comes back, and the next time goes on where this one stopped."""
    try:
        return await work()
    except DependencyAway as error:
        log.warning(f"{what} waits", error=error.detail)
    except Exception as error:
        if not is_outage(error):
            log.error(f"{what} failed", exc_info=error)
    return None
