"""Lists of models and versions: filtered, ordered, page after page, each page one statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic_core import to_json
from sqlalchemy import ColumnElement, Integer, Select, String, Uuid, and_, bindparam, case, func, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from keelway_api import documents
from keelway_api.documents import json_object, json_text
from keelway_api.errors import InvalidRequest, NotFound
from keelway_api.manifests.tables import ManifestTable
from keelway_api.models import queries
from keelway_api.models.queries import V
from keelway_api.models.tables import ModelTable
from keelway_api.pagination import PageRequest, moment, number, text
from keelway_api.query import NameFilter
from keelway_api.statements import Row, Statement, Statements, compiled

Pairs = Annotated[list[str], Query(max_length=20, description="'key' that is there, or 'key=value'; all must hold")]
Text = Annotated[str | None, Query(min_length=1, max_length=1024)]
PARSED: dict[str, Callable[[Any], Any]] = {"created_at": moment, "name": text, "version": number}


@dataclass(frozen=True)
class Shape:
    """All of a query but its values: queries of one shape are one statement. `filters`: `name` or of FILTERS."""

    filters: tuple[str, ...] = ()
    latest_only: bool = False
    order_by: str = "created_at"
    is_descending: bool = True
    has_cursor: bool = False

    @property
    def order(self) -> str:
        """What a page token of this order begins with."""
        return f"{self.order_by} {'desc' if self.is_descending else 'asc'}"


@dataclass(frozen=True)
class VersionQuery:
    """What a list of versions, or of models by their latest version, is asked for; a value for each filter."""

    shape: Shape
    values: tuple[Any, ...] = ()

    def at(self, workspace_id: UUID, paging: PageRequest) -> tuple[Shape, dict[str, Any]]:
        """The shape of one page of it, and the values of that statement's parameters.

        Raises InvalidRequest for the token of another order.
        """
        values = {f"value_{number}": value for number, value in enumerate(self.values)}
        values |= {"workspace_id": workspace_id, "limit": paging.limit + 1}
        cursor = paging.after(text, PARSED[self.shape.order_by], UUID)
        if cursor is None:
            return self.shape, values
        if cursor[0] != self.shape.order:
            raise InvalidRequest("query.page_token", "a token of this list in another order")
        return replace(self.shape, has_cursor=True), values | {"after": cursor[1], "after_id": cursor[2]}

    def key(self, row: Row) -> list[Any]:
        """What goes into the token for the page behind a row, which begins with its id and what it is ordered by."""
        value = row[1].isoformat() if self.shape.order_by == "created_at" else row[1]
        return [self.shape.order, value, str(row[0])]


async def get_query(
    name: NameFilter = None,
    tag: Pairs = [],  # noqa: B006 - FastAPI reads it, nobody changes it
    property: Pairs = [],  # noqa: B006
    framework: Text = None,
    run: Text = None,
    dataset: Text = None,
    safety: Literal["inert", "executable", "not-inspected"] | None = None,
    latest_only: bool = False,
    order_by: Literal["created_at", "name", "version"] = "created_at",
    order: Literal["asc", "desc"] | None = None,
) -> VersionQuery:
    """The filters and the order of the request's query."""
    plain = {"name": name, "framework": framework, "run": run}
    found = [(filter, value) for filter, value in plain.items() if value is not None]
    found += [_holds("tag", pair) for pair in tag] + [_holds("property", pair) for pair in property]
    if dataset is not None:
        found.append(("dataset", to_json([{"id": dataset}]).decode()))
    if safety is not None:
        found.append(("safety" if safety != "not-inspected" else "not-inspected", safety))
    is_descending = (order or ("asc" if order_by == "name" else "desc")) == "desc"
    shape = Shape(tuple(filter for filter, _ in found), latest_only, order_by, is_descending)
    return VersionQuery(shape, tuple(value for _, value in found))


Filtered = Annotated[VersionQuery, Depends(get_query)]


FILTERS: dict[str, Callable[[str], ColumnElement[bool]]] = {
    "framework": lambda value: V.framework == bindparam(value, type_=String()),
    "run": lambda value: V.run == bindparam(value, type_=String()),
    "safety": lambda value: V.safety_label == bindparam(value, type_=String()),
    # The value is named for the sake of one rule: each filter has one parameter.
    "not-inspected": lambda value: func.coalesce(V.safety_label, "not-inspected") == bindparam(value, type_=String()),
    "dataset": lambda value: V.datasets.contains(bindparam(value, type_=JSONB())),
    "tag": lambda value: V.tags.has_key(bindparam(value, type_=String())),
    "tag=": lambda value: V.tags.contains(bindparam(value, type_=JSONB())),
    "property": lambda value: V.properties.has_key(bindparam(value, type_=String())),
    "property=": lambda value: V.properties.contains(bindparam(value, type_=JSONB())),
}
STATEMENTS = 256  # shapes that are kept: callers could make up any number


def _filters(shape: Shape, name: Any) -> list[ColumnElement[bool]]:
    by_name: dict[str, Callable[[str], ColumnElement[bool]]] = {
        **FILTERS,
        "name": lambda value: name == bindparam(value, type_=String()),
    }
    return [by_name[filter](f"value_{number}") for number, filter in enumerate(shape.filters)]


def _page(wanted: Select[*tuple[Any, ...]], shape: Shape, column: Any, row_id: Any) -> Statement:
    """One page, ordered by a column and the row's id behind it, so that no two rows are equal."""
    here = (column, row_id)
    if shape.has_cursor:
        cursor = tuple_(bindparam("after", type_=column.type), bindparam("after_id", type_=Uuid()))
        wanted = wanted.where(tuple_(*here) < cursor if shape.is_descending else tuple_(*here) > cursor)
    wanted = wanted.order_by(*(part.desc() if shape.is_descending else part.asc() for part in here))
    return compiled(wanted.limit(bindparam("limit", type_=Integer())))


@lru_cache(STATEMENTS)
def versions_statement(shape: Shape) -> Statement:
    """One page of versions: id, what they are ordered by, document."""
    column = getattr(V, shape.order_by)
    wanted = queries.documents(V.id, column, json_text(queries.DOCUMENT.short)).where(V.workspace_id == WORKSPACE_ID)
    if shape.latest_only:
        is_latest = and_(ModelTable.id == V.model_id, ModelTable.latest_version == V.version)
        wanted = wanted.join(ModelTable, is_latest)
    return _page(wanted.where(*_filters(shape, V.name)), shape, column, V.id)


@lru_cache(STATEMENTS)
def models_statement(shape: Shape) -> Statement:
    """One page of models: id, what they are ordered by, document."""
    sorted_by = {"created_at": ModelTable.created_at, "name": ModelTable.name}
    column = sorted_by.get(shape.order_by, func.coalesce(ModelTable.latest_version, 0))
    wanted = _models(ModelTable.id, column)
    if shape.latest_only:
        wanted = wanted.where(ModelTable.latest_version.is_not(None))
    return _page(wanted.where(*_filters(shape, ModelTable.name)), shape, column, ModelTable.id)


async def versions(statements: Statements, workspace_id: UUID, query: VersionQuery, paging: PageRequest) -> Response:
    """Versions of all models, or of the one that is named, without their files."""
    shape, values = query.at(workspace_id, paging)
    items, token = paging.cut(await statements.rows(versions_statement(shape), values), query.key)
    return documents.page([item[2] for item in items], token)


async def versions_of(statements: Statements, workspace_id: UUID, name: str, paging: PageRequest) -> Response:
    """The versions of one model, the highest first. Raises NotFound."""
    query = VersionQuery(Shape(("name",), order_by="version"), (name,))
    shape, values = query.at(workspace_id, paging)
    rows = await statements.rows(versions_statement(shape), values)
    if not rows:
        await model(statements, workspace_id, name)
    items, token = paging.cut(rows, query.key)
    return documents.page([item[2] for item in items], token)


async def models(statements: Statements, workspace_id: UUID, query: VersionQuery, paging: PageRequest) -> Response:
    """Models with their latest ready version; filters are about that one."""
    shape, values = query.at(workspace_id, paging)
    items, token = paging.cut(await statements.rows(models_statement(shape), values), query.key)
    return documents.page([item[2] for item in items], token)


LATEST = case((V.id.is_not(None), queries.DOCUMENT.short))
MODEL_AS_JSON = json_object((ModelTable.name, ModelTable.created_at, LATEST.label("latest")))
WORKSPACE_ID = bindparam("workspace_id", type_=Uuid())


def _models(*columns: Any) -> Select[*tuple[Any, ...]]:
    is_latest = and_(V.model_id == ModelTable.id, V.version == ModelTable.latest_version)
    return (
        select(*columns, json_text(MODEL_AS_JSON))
        .select_from(ModelTable)
        .outerjoin(V, is_latest)
        .outerjoin(ManifestTable, ManifestTable.id == V.manifest_id)
        .where(ModelTable.workspace_id == WORKSPACE_ID, ModelTable.is_deleted.is_(False))
    )


MODEL = compiled(_models().where(ModelTable.name == bindparam("name", type_=String())))


async def model(statements: Statements, workspace_id: UUID, name: str) -> Response:
    """One model with its latest ready version. Raises NotFound."""
    row = await statements.row(MODEL, {"workspace_id": workspace_id, "name": name})
    if row is None:
        raise NotFound("model", name)
    return documents.answer(row[0])


def _holds(parameter: str, pair: str) -> tuple[str, str]:
    """`key` is among the keys, or `key=value` among the pairs. Raises InvalidRequest without a key."""
    key, equals, value = pair.partition("=")
    if not key:
        raise InvalidRequest(f"query.{parameter}", "must be 'key' or 'key=value'")
    return (f"{parameter}=", to_json({key: value}).decode()) if equals else (parameter, key)
