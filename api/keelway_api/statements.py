"""Single statements for the hot paths: prepared by Postgres, on connections of their own, each its own transaction.

What every request asks, and what is read most, would spend most of its time in the session: three round trips for its
transaction and ten times the work of the driver for its objects.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import psycopg
from fastapi import Depends, Request
from psycopg.pq import TransactionStatus
from sqlalchemy import Select, Update
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.db import CONNECT_S, POOL_WAIT_S, SESSION_OPTIONS
from keelway_api.errors import DependencyAway, InvalidRequest

CONNECTIONS = 10
Row = tuple[Any, ...]
_DIALECT = dialect.dialect()


PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True)
class Statement:
    """A statement as Postgres reads it, and the names of its parameters in their order."""

    text: bytes
    names: tuple[str, ...]

    async def run(self, connection: psycopg.AsyncConnection, values: Mapping[str, Any], *, prepare: bool) -> list[Row]:
        """All rows; none of a statement that gives none. Raises psycopg.Error."""
        # A raw cursor: the usual one would rewrite its own notation for parameters at every call.
        cursor = psycopg.AsyncRawCursor(connection)
        await cursor.execute(self.text, [values[name] for name in self.names], prepare=prepare)
        # Not cursor.description, which makes an object of each column.
        return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []


def compiled(statement: Select[*tuple[Any, ...]] | Update) -> Statement:
    """A statement once and for all; what changes are bindparams with names and no value."""
    found = statement.compile(dialect=_DIALECT)
    constants = {name: _constant(value) for name, value in found.params.items() if value is not None}
    names = [name for name in found.params if name not in constants]
    places = {name: f"${number}" for number, name in enumerate(names, start=1)} | constants
    return Statement(PARAMETER.sub(lambda match: places[match[1]], str(found)).encode(), tuple(names))


def _constant(value: str | bool | int) -> str:
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        return f"'{quoted}'"
    return str(value).lower()


async def run_in(session: AsyncSession, statement: Statement, values: Mapping[str, Any]) -> Row | None:
    """The first row of a statement that is a part of the session's transaction."""
    await session.flush()
    connection = await (await session.connection()).get_raw_connection()
    driver: Any = connection.driver_connection
    try:
        rows = await statement.run(driver, values, prepare=False)
    except psycopg.Error as error:  # as the session would raise it
        raise DBAPIError.instance(None, None, error, psycopg.Error) from error
    return rows[0] if rows else None


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
            await self._turn()
            try:
                return await self._rows(statement, values)
            finally:
                self._turns.release()
        except psycopg.DataError as error:  # NUL in a text
            raise InvalidRequest("request", "it holds a character or a number that cannot be stored") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError, OSError) as error:
            raise DependencyAway("postgres") from error

    async def close(self) -> None:
        """Close what is idle now, and the others when they come back."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _turn(self) -> None:
        if self._turns.locked():
            async with asyncio.timeout(POOL_WAIT_S):
                await self._turns.acquire()
        else:
            await self._turns.acquire()  # at once; a timer for it would cost more than it

    async def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        connection = await self._take()
        try:
            return await statement.run(connection, values, prepare=True)
        finally:
            if self._is_closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
                await connection.close()
            else:
                self._idle.append(connection)

    async def _take(self) -> psycopg.AsyncConnection:
        """The one that was used last, so that those that are not needed stay idle; a new one when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not is_stale(connection.pgconn):
                return connection
            await connection.close()
        return await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, connect_timeout=CONNECT_S, options=SESSION_OPTIONS
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
