"""What of this API works right now."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio.to_thread
from celery import Celery
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import DependencyAway
from keelway_api.operations.tables import OperationTable

CHECK_S = 3.0


async def postgres(sessions: Sessions) -> str | None:
    """None when Postgres answers, else what is wrong."""
    try:
        async with asyncio.timeout(CHECK_S), sessions() as session:
            await session.execute(text("SELECT 1"))
    except Exception as error:  # noqa: BLE001 - any failure at all is the answer
        return type(error).__name__
    return None


async def object_store(store: BlobStore) -> str | None:
    """None when the object store answers and has our bucket, else what is wrong."""
    try:
        async with asyncio.timeout(CHECK_S):
            await store.check()
    except (DependencyAway, TimeoutError, Exception) as error:  # noqa: BLE001
        return type(error).__name__
    return None


async def redis(celery: Celery) -> str | None:
    """None when the doorbell's Redis answers, else what is wrong."""

    def ping() -> None:
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0, timeout=CHECK_S)

    try:
        async with asyncio.timeout(CHECK_S):
            await anyio.to_thread.run_sync(ping, abandon_on_cancel=True)
    except Exception as error:  # noqa: BLE001 - any failure at all is the answer
        return type(error).__name__
    return None


async def operations_by_state(session: AsyncSession) -> dict[str, int]:
    """How many operations are in each state."""
    rows = await session.execute(select(OperationTable.state, func.count()).group_by(OperationTable.state))
    return {state: count for state, count in rows.tuples()}  # noqa: C416 - a Result is no mapping


async def oldest_queued_s(session: AsyncSession) -> float | None:
    """How long the oldest queued operation has been waiting."""
    wanted = select(func.extract("epoch", func.now() - func.min(OperationTable.created_at)))
    found = await session.scalar(wanted.where(OperationTable.state == "queued"))
    return None if found is None else float(found)


def children(status_file: Path | None) -> list[dict[str, Any]]:
    """The processes that `keelway up` watches, as it last wrote them down."""
    if status_file is None or not status_file.exists():
        return []
    return json.loads(status_file.read_text()).get("children", [])


def own_version() -> str:
    """The version of this API."""
    return version("keelway-api")
