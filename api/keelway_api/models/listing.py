"""Lists of models and versions: filtered, ordered, page after page, each page one statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.base import Page
from keelway.contracts.models import Model, ModelVersion
from keelway_api.errors import InvalidRequest, NotFound
from keelway_api.manifests.tables import ManifestTable
from keelway_api.models import queries
from keelway_api.models.queries import V
from keelway_api.models.tables import ModelTable
from keelway_api.pagination import PageRequest, moment, number, text
from keelway_api.query import NameFilter

Pairs = Annotated[list[str], Query(max_length=20, description="'key' that is there, or 'key=value'; all must hold")]
Text = Annotated[str | None, Query(min_length=1, max_length=1024)]
PARSED: dict[str, Callable[[Any], Any]] = {"created_at": moment, "name": text, "version": number}


class VersionQuery:
    """What a list of versions, or of models by their latest version, may be asked for."""

    def __init__(
        self,
        name: NameFilter = None,
        tag: Pairs = [],  # noqa: B006 - FastAPI reads it, nobody changes it
        property: Pairs = [],  # noqa: B006
        framework: Text = None,
        run: Text = None,
        dataset: Text = None,
        latest_only: bool = False,
        order_by: Literal["created_at", "name", "version"] = "created_at",
        order: Literal["asc", "desc"] | None = None,
    ) -> None:
        self.name = name
        self.latest_only = latest_only
        self.order_by = order_by
        self.is_descending = (order or ("asc" if order_by == "name" else "desc")) == "desc"
        self.said = [
            *(_holds(V.tags, "tag", pair) for pair in tag),
            *(_holds(V.properties, "property", pair) for pair in property),
        ]
        if framework is not None:
            self.said.append(V.framework == framework)
        if run is not None:
            self.said.append(V.run == run)
        if dataset is not None:
            self.said.append(V.datasets.contains([{"id": dataset}]))

    def cursor(self, paging: PageRequest) -> tuple[Any, UUID] | None:
        """Where this page begins. Raises InvalidRequest for the token of another order."""
        found = paging.after(text, PARSED[self.order_by], UUID)
        if found is None:
            return None
        if found[0] != self._order:
            raise InvalidRequest("query.page_token", "a token of this list in another order")
        return found[1], found[2]

    def key(self, value: Any, row_id: UUID) -> list[Any]:
        """What goes into the token for the next page."""
        return [self._order, value.isoformat() if self.order_by == "created_at" else value, str(row_id)]

    @property
    def _order(self) -> str:
        return f"{self.order_by} {'desc' if self.is_descending else 'asc'}"


@dataclass(frozen=True)
class _Order:
    """A column and the row's id behind it, so that no two rows are equal."""

    column: Any
    row_id: Any
    is_descending: bool

    def after(self, cursor: tuple[Any, UUID]) -> ColumnElement[bool]:
        """Behind the row that the cursor names."""
        here = tuple_(self.column, self.row_id)
        return here < tuple_(*cursor) if self.is_descending else here > tuple_(*cursor)

    @property
    def clauses(self) -> list[Any]:
        """For ORDER BY."""
        columns = (self.column, self.row_id)
        return [column.desc() if self.is_descending else column.asc() for column in columns]


async def versions(
    session: AsyncSession, workspace_id: UUID, query: VersionQuery, paging: PageRequest
) -> Page[ModelVersion]:
    """Versions of all models, or of the one that is named, without their files."""
    order = _Order(getattr(V, query.order_by), V.id, query.is_descending)
    wanted = queries.documents().where(V.workspace_id == workspace_id, *query.said)
    if query.name is not None:
        wanted = wanted.where(V.name == query.name)
    if query.latest_only:
        is_latest = and_(ModelTable.id == V.model_id, ModelTable.latest_version == V.version)
        wanted = wanted.join(ModelTable, is_latest)
    if cursor := query.cursor(paging):
        wanted = wanted.where(order.after(cursor))
    rows = (await session.execute(wanted.order_by(*order.clauses).limit(paging.limit + 1))).all()
    page = paging.page(rows, lambda row: query.key(getattr(row, query.order_by), row.row_id))
    return Page(items=[queries.contract(row) for row in page.items], next_page_token=page.next_page_token)


async def models(session: AsyncSession, workspace_id: UUID, query: VersionQuery, paging: PageRequest) -> Page[Model]:
    """Models with their latest ready version; filters are about that one."""
    columns = {"created_at": ModelTable.created_at, "name": ModelTable.name}
    version = func.coalesce(ModelTable.latest_version, 0)
    order = _Order(columns.get(query.order_by, version), ModelTable.id, query.is_descending)
    wanted = _models(workspace_id).where(*query.said)
    if query.name is not None:
        wanted = wanted.where(ModelTable.name == query.name)
    if query.latest_only:
        wanted = wanted.where(ModelTable.latest_version.is_not(None))
    if cursor := query.cursor(paging):
        wanted = wanted.where(order.after(cursor))
    rows = (await session.execute(wanted.order_by(*order.clauses).limit(paging.limit + 1))).all()
    page = paging.page(rows, lambda row: query.key(_sorted_by(row, query.order_by), row.model_row_id))
    return Page(items=[_model(row) for row in page.items], next_page_token=page.next_page_token)


async def model(session: AsyncSession, workspace_id: UUID, name: str) -> Model:
    """One model with its latest ready version. Raises NotFound."""
    row = (await session.execute(_models(workspace_id).where(ModelTable.name == name))).first()
    if row is None:
        raise NotFound("model", name)
    return _model(row)


def _models(workspace_id: UUID) -> Select[*tuple[Any, ...]]:
    latest = and_(V.model_id == ModelTable.id, V.version == ModelTable.latest_version)
    model = (
        ModelTable.id.label("model_row_id"),
        ModelTable.name.label("model_name"),
        ModelTable.created_at.label("model_created_at"),
        ModelTable.latest_version,
    )
    return (
        select(*model, *queries.DOCUMENT)
        .select_from(ModelTable)
        .outerjoin(V, latest)
        .outerjoin(ManifestTable, ManifestTable.id == V.manifest_id)
        .where(ModelTable.workspace_id == workspace_id, ModelTable.is_deleted.is_(False))
    )


def _model(row: Row[Any]) -> Model:
    latest = queries.contract(row) if row.row_id else None
    return Model(name=row.model_name, created_at=row.model_created_at, latest=latest)


def _sorted_by(row: Row[Any], order_by: str) -> Any:
    return {"created_at": row.model_created_at, "name": row.model_name}.get(order_by, row.latest_version or 0)


def _holds(column: Any, parameter: str, pair: str) -> ColumnElement[bool]:
    """`key` is among the keys, or `key=value` among the pairs. Raises InvalidRequest without a key."""
    key, equals, value = pair.partition("=")
    if not key:
        raise InvalidRequest(f"query.{parameter}", "must be 'key' or 'key=value'")
    return column.contains({key: value}) if equals else column.has_key(key)
