"""Single statements for the hot paths: prepared by Postgres, on connections of their own, each its own transaction.

What every request asks, and what is read most, would spend most of its time in the session: three round trips for its
transaction and ten times the work of the driver for its objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import psycopg
from fastapi import Depends, Request
from psycopg.pq import TransactionStatus
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.engine import make_url

from keelway_api.db import CONNECT_S, POOL_WAIT_S, TIMEOUTS
from keelway_api.errors import DependencyAway, InvalidRequest

CONNECTIONS = 10
Row = tuple[Any, ...]
_DIALECT = dialect.dialect()


@dataclass(frozen=True)
class Statement:
    """A statement as Postgres reads it, and the values of those parameters that never change."""

    text: bytes
    values: Mapping[str, Any]


def compiled(statement: Select[*tuple[Any, ...]]) -> Statement:
    """A statement once and for all; what changes are bindparams with names."""
    found = statement.compile(dialect=_DIALECT)
    values = {name: value for name, value in found.params.items() if value is not None}
    return Statement(str(found).encode(), values)


class Statements:
    """A few connections that wait for statements."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url).set(drivername="postgresql")
        self._conninfo = url.render_as_string(hide_password=False)
        self._idle: list[psycopg.AsyncConnection] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._is_closed = False

    async def row(self, statement: Statement, values: Mapping[str, Any]) -> Row | None:
        """The first row. Raises DependencyAway, InvalidRequest for values that no column takes."""
        rows = await self.rows(statement, values)
        return rows[0] if rows else None

    async def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """All rows; none of a statement that gives none. Raises DependencyAway, InvalidRequest."""
        try:
            async with self._connection() as connection:
                cursor = await connection.execute(statement.text, {**statement.values, **values}, prepare=True)
                return await cursor.fetchall() if cursor.description else []
        except psycopg.DataError as error:  # NUL in a text
            raise InvalidRequest("request", "it holds a character or a number that cannot be stored") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError, OSError) as error:
            raise DependencyAway("postgres") from error

    async def close(self) -> None:
        """Close what is idle now, and the others when they come back."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().close()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        async with asyncio.timeout(POOL_WAIT_S):
            await self._turns.acquire()
        try:
            connection = await self._take()
            try:
                yield connection
            finally:
                if self._is_closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
                    await connection.close()
                else:
                    self._idle.append(connection)
        finally:
            self._turns.release()

    async def _take(self) -> psycopg.AsyncConnection:
        """The one that was used last, so that those that are not needed stay idle; a new one when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not is_stale(connection.pgconn):
                return connection
            await connection.close()
        return await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, connect_timeout=CONNECT_S, options=TIMEOUTS
        )


def is_stale(connection: psycopg.pq.abc.PGconn) -> bool:
    """Whether the server has gone: an idle connection has something to read only when it ends. Asks nobody."""
    if connection.status != psycopg.pq.ConnStatus.OK:
        return True
    poll = select.poll()
    poll.register(connection.socket, select.POLLIN)
    return bool(poll.poll(0))


async def get_statements(request: Request) -> Statements:
    """The API's statements."""
    return request.app.state.statements


HotStatements = Annotated[Statements, Depends(get_statements)]
