"""Answers as Postgres writes them: what is only read and passed on need not become objects on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Response
from pydantic_core import to_json
from sqlalchemy import ColumnElement, DateTime, Text, cast, func

INSTANT = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def json_object(columns: Sequence[Any]) -> ColumnElement[Any]:
    """The columns by their names, as the contract of the same fields writes them."""
    return func.json_build_object(*(part for column in columns for part in (column.key, _shown(column))))


def json_text(document: ColumnElement[Any]) -> ColumnElement[str]:
    """A document that the driver hands over as it is."""
    return cast(document, Text)


def answer(document: str | bytes, *, etag: str | None = None, status: int = 200) -> Response:
    """A document as the answer."""
    return Response(document, status, headers={"ETag": etag} if etag else None, media_type="application/json")


def page(documents: Sequence[str], next_page_token: str | None) -> Response:
    """One page of a list of documents."""
    token = to_json(next_page_token).decode()
    return answer(f'{{"items":[{",".join(documents)}],"next_page_token":{token}}}')


def _shown(column: Any) -> Any:
    if isinstance(column.type, DateTime):
        return func.to_char(func.timezone("UTC", column), INSTANT)
    return column
