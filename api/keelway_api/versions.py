"""`{version}` in a path, for everything that has numbered versions."""

from __future__ import annotations

from typing import TypeVarTuple

from sqlalchemy import ColumnElement, Select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

Row = TypeVarTuple("Row")
MAX_DIGITS = 9  # what surely fits the column


async def pick(
    session: AsyncSession,
    wanted: Select[*Row],
    number: InstrumentedAttribute[int],
    given: str,
    *,
    latest_among: ColumnElement[bool] | None = None,
) -> tuple[*Row] | None:
    """The row that `given` means: a number, or `latest` for the highest one, of those `latest_among` where given."""
    if given == "latest":
        wanted = wanted.where(true() if latest_among is None else latest_among).order_by(number.desc()).limit(1)
    elif given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS:
        wanted = wanted.where(number == int(given))
    else:
        return None
    return (await session.execute(wanted)).tuples().first()
