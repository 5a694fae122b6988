"""Pages by cursor: stable while rows are added, opaque to callers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query

from keelway.contracts.base import Page
from keelway_api.errors import InvalidRequest

Item = TypeVar("Item")
DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class PageRequest:
    """`?limit=&page_token=`: ask the database for `limit + 1` rows after the cursor, then make the page."""

    def __init__(self, limit: int, page_token: str | None) -> None:
        self.limit = limit
        self._cursor = _decode(page_token) if page_token else None

    def after(self, *types: Callable[[Any], Any]) -> list[Any] | None:
        """The cursor's values when there is one. Raises InvalidRequest when they are not of these types.

        Types are `text`, `number`, `moment` and `UUID`: a token is input like any other, and may be made up.
        """
        if self._cursor is None:
            return None
        try:
            return [read(value) for read, value in zip(types, self._cursor, strict=True)]
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidRequest("query.page_token", "not a token of this list") from error

    def after_text(self) -> str | None:
        """The cursor of a list that is ordered by one name."""
        cursor = self.after(text)
        return cursor[0] if cursor else None

    def after_int(self) -> int | None:
        """The cursor of a list that is ordered by one integer."""
        cursor = self.after(number)
        return cursor[0] if cursor else None

    def page(self, rows: Sequence[Item], key: Callable[[Item], Any]) -> Page[Item]:
        """The first `limit` rows, and a token when there is one more. `key` gives a row's cursor values."""
        items, token = self.cut(rows, key)
        return Page(items=items, next_page_token=token)

    def cut(self, rows: Sequence[Item], key: Callable[[Item], Any]) -> tuple[list[Item], str | None]:
        """The same as a pair, for items that are no contracts."""
        items = list(rows[: self.limit])
        more = len(rows) > self.limit
        return items, _encode(key(items[-1])) if more else None


async def get_paging(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    page_token: Annotated[str | None, Query(max_length=2048)] = None,
) -> PageRequest:
    """The page that the query asks for. A coroutine: FastAPI calls others, and classes, in a thread."""
    return PageRequest(limit, page_token)


Paging = Annotated[PageRequest, Depends(get_paging)]


def text(value: Any) -> str:
    """A text that Postgres can compare with. ValueError otherwise."""
    if not isinstance(value, str) or "\0" in value or not value.isprintable():
        raise ValueError(value)
    return value


def number(value: Any) -> int:
    """An integer that fits a column. ValueError otherwise."""
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(value)
    return value


def row_number(value: Any) -> int:
    """An integer that fits a column of ids. ValueError otherwise."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(value)
    return value


def moment(value: Any) -> datetime:
    """A time with its zone. ValueError otherwise."""
    found = datetime.fromisoformat(text(value))
    if found.tzinfo is None:
        raise ValueError(value)
    return found


def _encode(values: Any) -> str:
    listed = list(values) if isinstance(values, tuple | list) else [values]
    return base64.urlsafe_b64encode(json.dumps(listed, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(token: str) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidRequest("query.page_token", "not a token of this list") from error
    if not isinstance(values, list):
        raise InvalidRequest("query.page_token", "not a token of this list")
    return values
