"""Lists of models and versions: filtered, ordered, page after page, each page one statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic_core import to_json
from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Integer,
    ScalarSelect,
    Select,
    String,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from keelway_api import documents
from keelway_api.documents import json_object, json_text
from keelway_api.errors import InvalidRequest, NotFound
from keelway_api.manifests.tables import ManifestTable
from keelway_api.models import queries
from keelway_api.models.pages import PlaceOfPage, WrittenPage
from keelway_api.models.queries import V
from keelway_api.models.tables import ModelTable
from keelway_api.pagination import PageRequest, moment, number, text
from keelway_api.query import NameFilter, Pairs
from keelway_api.statements import Row, Statement, Statements, compiled

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
    "not-inspected": lambda _: and_(V.id.is_not(None), V.safety_label.is_(None)),
    "dataset": lambda value: V.datasets.contains(bindparam(value, type_=JSONB())),
    "tag": lambda value: V.tags.has_key(bindparam(value, type_=String())),
    "tag=": lambda value: V.tags.contains(bindparam(value, type_=JSONB())),
    "property": lambda value: V.properties.has_key(bindparam(value, type_=String())),
    "property=": lambda value: V.properties.contains(bindparam(value, type_=JSONB())),
}
STATEMENTS = 256  # shapes that are kept: callers could make up any number
MARKS = ";"  # between those of a page
WALKED = 30  # rows of an order for each one of a page that are looked at before a filter's own index is


def _is_named(shape: Shape, name: Any) -> list[ColumnElement[bool]]:
    return [name == bindparam(value, type_=String()) for filter, value in _values(shape) if filter == "name"]


def _filters(shape: Shape) -> list[ColumnElement[bool]]:
    return [FILTERS[filter](value) for filter, value in _values(shape) if filter != "name"]


def _values(shape: Shape) -> list[tuple[str, str]]:
    """The filters, each with the name of its parameter."""
    return [(filter, f"value_{number}") for number, filter in enumerate(shape.filters)]


@dataclass(frozen=True, eq=False)  # columns compare as SQL
class Listing:
    """A list: `rows(shape, columns)` selects columns of what one index has in the order that is asked for.

    `conditions(shape)`: those that are wanted of them. `order(shape)`: the id of a row and what rows are ordered by.
    `document`: what is shown of a row. `marks`: what differs whenever that does.
    """

    rows: Callable[..., Select[*tuple[Any, ...]]]
    conditions: Callable[[Shape], list[ColumnElement[bool]]]
    order: Callable[[Shape], tuple[Any, Any]]
    document: ColumnElement[Any]
    marks: tuple[Any, ...]


@lru_cache(STATEMENTS)
def page_statement(listing: Listing, shape: Shape) -> Statement:
    """One page: id, what rows are ordered by, document, mark."""
    columns = (*listing.order(shape), json_text(listing.document), _mark(listing))
    return compiled(_with_manifests(_page(listing, shape, *columns)))


@lru_cache(STATEMENTS)
def marks_statement(listing: Listing, shape: Shape) -> Statement:
    """The marks of the same page, as one text."""
    page = _page(listing, shape, _mark(listing).label("mark")).subquery()
    return compiled(select(func.string_agg(page.c.mark, MARKS)))


def _mark(listing: Listing) -> ColumnElement[str]:
    return func.concat_ws("|", *listing.marks)


def _page(listing: Listing, shape: Shape, *columns: Any) -> Select[*tuple[Any, ...]]:
    """One page, ordered by a column and the row's id behind it, so that no two rows are equal."""
    if not listing.conditions(shape):
        return _ordered(shape, _behind_cursor(listing, shape, *columns), listing.order(shape)).limit(LIMIT)
    ids = func.array(_first_ids(listing, shape).scalar_subquery())
    wanted = listing.rows(shape, *columns).where(listing.order(shape)[0] == any_(ids))
    return _ordered(shape, wanted, listing.order(shape))


def _first_ids(listing: Listing, shape: Shape) -> CompoundSelect[Any]:
    """The ids of a page: from a walk of some rows along the order's index, or from all rows that the filters' have.

    A walk soon finds values that are frequent, the filters' indexes have few rows of those that are not. A plan must be
    made before it is known which a value is: one that only walks meets all rows for a rare value, one that only sorts
    meets all rows for a frequent one.
    """
    is_wanted = and_(*listing.conditions(shape))
    row_id, column = (part.label(name) for part, name in zip(listing.order(shape), ("id", "ordered_by"), strict=True))
    walk = _behind_cursor(listing, shape, row_id, column, is_wanted.label("is_wanted"))
    walked = _kept(_ordered(shape, walk, listing.order(shape)).limit(LIMIT * WALKED), "walked")
    near = _kept(_first(shape, walked, walked.c.is_wanted), "near")
    is_enough = or_(_count(near) >= LIMIT, _count(walked) < LIMIT * WALKED)
    # Kept apart: a plan that knew of order, limit or cursor here would walk again.
    others = _kept(listing.rows(shape, row_id, column).where(is_wanted, not_(is_enough)), "others")
    rest = _first(shape, others, *_is_behind_cursor(shape, others.c.id, others.c.ordered_by))
    return union_all(select(near.c.id), rest)


def _kept(rows: Select[*tuple[Any, ...]], name: str) -> CTE:
    return rows.cte(name).prefix_with("MATERIALIZED")


def _count(rows: CTE) -> ScalarSelect[int]:
    return select(func.count()).select_from(rows).scalar_subquery()


def _first(shape: Shape, rows: CTE, *conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    found = select(rows.c.id).where(*conditions)
    return _ordered(shape, found, (rows.c.id, rows.c.ordered_by)).limit(LIMIT)


def _ordered(shape: Shape, rows: Select[*tuple[Any, ...]], order: tuple[Any, Any]) -> Select[*tuple[Any, ...]]:
    row_id, column = order
    return rows.order_by(*(part.desc() if shape.is_descending else part.asc() for part in (column, row_id)))


def _behind_cursor(listing: Listing, shape: Shape, *columns: Any) -> Select[*tuple[Any, ...]]:
    return listing.rows(shape, *columns).where(*_is_behind_cursor(shape, *listing.order(shape)))


def _is_behind_cursor(shape: Shape, row_id: Any, column: Any) -> list[ColumnElement[bool]]:
    if not shape.has_cursor:
        return []
    cursor = tuple_(bindparam("after", type_=column.type), bindparam("after_id", type_=Uuid()))
    here = tuple_(column, row_id)
    return [here < cursor if shape.is_descending else here > cursor]


def _version_rows(shape: Shape, *columns: Any) -> Select[*tuple[Any, ...]]:
    rows = select(*columns).select_from(V).where(V.workspace_id == WORKSPACE_ID)
    return rows if shape.order_by == "created_at" else rows.where(*_is_named(shape, V.name))


def _version_conditions(shape: Shape) -> list[ColumnElement[bool]]:
    conditions = _filters(shape)
    if shape.order_by == "created_at":  # the order's index has no name
        conditions += _is_named(shape, V.name)
    if shape.latest_only:
        is_latest = and_(ModelTable.id == V.model_id, ModelTable.latest_version == V.version)
        conditions.append(exists().where(is_latest))
    return conditions


def _version_order(shape: Shape) -> tuple[Any, Any]:
    return V.id, getattr(V, shape.order_by)


def _model_rows(shape: Shape, *columns: Any) -> Select[*tuple[Any, ...]]:
    return _models(*columns).where(*_is_named(shape, ModelTable.name))


def _model_conditions(shape: Shape) -> list[ColumnElement[bool]]:
    return [*_filters(shape), *([ModelTable.latest_version.is_not(None)] if shape.latest_only else [])]


def _model_order(shape: Shape) -> tuple[Any, Any]:
    sorted_by = {"created_at": ModelTable.created_at, "name": ModelTable.name}
    return ModelTable.id, sorted_by.get(shape.order_by, func.coalesce(ModelTable.latest_version, 0))


async def versions(
    statements: Statements, place: PlaceOfPage, workspace_id: UUID, query: VersionQuery, paging: PageRequest
) -> Response:
    """Versions of all models, or of the one that is named, without their files."""
    return await _answer(statements, place, VERSIONS, workspace_id, query, paging)


async def versions_of(
    statements: Statements, place: PlaceOfPage, workspace_id: UUID, name: str, paging: PageRequest
) -> Response:
    """The versions of one model, the highest first. Raises NotFound."""
    query = VersionQuery(Shape(("name",), order_by="version"), (name,))
    answer = await _answer(statements, place, VERSIONS, workspace_id, query, paging)
    if answer.body == EMPTY:
        await model(statements, workspace_id, name)
    return answer


async def models(
    statements: Statements, place: PlaceOfPage, workspace_id: UUID, query: VersionQuery, paging: PageRequest
) -> Response:
    """Models with their latest ready version; filters are about that one."""
    return await _answer(statements, place, MODELS, workspace_id, query, paging)


async def _answer(
    statements: Statements,
    place: PlaceOfPage,
    listing: Listing,
    workspace_id: UUID,
    query: VersionQuery,
    paging: PageRequest,
) -> Response:
    shape, values = query.at(workspace_id, paging)
    rows = await statements.rows(page_statement(listing, shape), values)
    items, token = paging.cut(rows, query.key)
    answer = documents.page([item[2] for item in items], token)
    if rows:  # a body is kept with the marks that were read with it, by one statement
        marks = MARKS.join(row[3] for row in rows)
        place.keep(WrittenPage(marks, bytes(answer.body), marks_statement(listing, shape), values))
    return answer


LATEST = case((V.id.is_not(None), queries.DOCUMENT.short))
MODEL_AS_JSON = json_object((ModelTable.name, ModelTable.created_at, LATEST.label("latest")))
WORKSPACE_ID = bindparam("workspace_id", type_=Uuid())
LIMIT = bindparam("limit", type_=Integer())
# Postgres gives a row another xmin with each change, but may give one again after a failover. row_version never comes
# again, but a label does not change it. What is shown beside the row is compared itself.
VERSION_MARKS = (V.id, V.row_version, literal_column("model_versions.xmin"), *queries.NAMED)
MODEL_MARKS = (ModelTable.id, literal_column("models.xmin"), *VERSION_MARKS)
VERSIONS = Listing(_version_rows, _version_conditions, _version_order, queries.DOCUMENT.short, VERSION_MARKS)
MODELS = Listing(_model_rows, _model_conditions, _model_order, MODEL_AS_JSON, MODEL_MARKS)
EMPTY = documents.page([], None).body


def _models(*columns: Any) -> Select[*tuple[Any, ...]]:
    is_latest = and_(V.model_id == ModelTable.id, V.version == ModelTable.latest_version)
    return (
        select(*columns)
        .select_from(ModelTable)
        .outerjoin(V, is_latest)
        .where(ModelTable.workspace_id == WORKSPACE_ID, ModelTable.is_deleted.is_(False))
    )


def _with_manifests(wanted: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """With what documents show of manifests, which never changes."""
    return wanted.outerjoin(ManifestTable, ManifestTable.id == V.manifest_id)


ONE = _models(json_text(MODEL_AS_JSON)).where(ModelTable.name == bindparam("name", type_=String()))
MODEL = compiled(_with_manifests(ONE))


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
