"""The database: one engine, one session a request, committed at the edge before the answer leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from keelway_api.settings import ApiSettings

Item = TypeVar("Item")
STATEMENT_ITEMS = 10_000
Sessions = async_sessionmaker[AsyncSession]

# A statement that waits longer than this is a fault to report (503), not a request to hang.
# Random pages cost what they cost on an SSD: what the API reads by index is small beside memory.
SESSION_OPTIONS = (
    "-c statement_timeout=15s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s "
    "-c random_page_cost=1.1 -c application_name=keelway"
)


CONNECT_S = 5
POOL_WAIT_S = 5


def create_engine(settings: ApiSettings) -> AsyncEngine:
    """An engine with a bounded pool that notices dead connections."""
    return create_async_engine(
        settings.database_url.get_secret_value(),
        pool_size=20,
        max_overflow=0,  # a connection beyond the pool would be made and closed for each request
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_S, "options": SESSION_OPTIONS},
    )


def create_sessions(engine: AsyncEngine) -> Sessions:
    """Sessions whose objects stay readable after the commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One transaction: committed when the handler returned, rolled back when it raised."""
    sessions: Sessions = request.app.state.sessions
    async with sessions.begin() as session:
        yield session


# scope="function": FastAPI ends an ordinary yield dependency after the answer was sent, so that a client could hold a
# 200 for something that was never committed.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def get_sessions(request: Request) -> Sessions:
    """The factory, for handlers that must not hold a connection during I/O or waits."""
    return request.app.state.sessions


SessionFactory = Annotated[Sessions, Depends(get_sessions)]


def batched(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Pieces that fit one statement, whose parameters are counted in 16 bits."""
    return (items[start : start + STATEMENT_ITEMS] for start in range(0, len(items), STATEMENT_ITEMS))


async def forgo_sync(session: AsyncSession) -> None:
    """Do not wait for the disk at this commit: only for what is told again anyway, such as heartbeats."""
    await session.execute(text("SET LOCAL synchronous_commit = off"))
