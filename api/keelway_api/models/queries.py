"""SELECTs of models; each starts from one workspace, and reads a version with all that is shown of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    String,
    Uuid,
    and_,
    bindparam,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.models import ModelVersion, VersionState
from keelway_api.db import batched
from keelway_api.documents import json_object, json_text
from keelway_api.errors import NotFound
from keelway_api.manifests.tables import ManifestFileTable, ManifestTable
from keelway_api.models.tables import AliasTable, ModelTable, ModelUseTable, ModelVersionTable
from keelway_api.statements import Statement, Statements, compiled

V = ModelVersionTable
VersionRow = tuple[ModelVersionTable, ModelTable, ManifestTable]
MAX_DIGITS = 9  # what surely fits the column

SHOWN = (
    V.name, V.version, V.state, V.description, V.tags, V.properties, V.framework, V.framework_version,
    V.resource_requirements, V.run, V.datasets, V.requires_approval, V.approved_at, V.approved_by, V.created_at,
    V.created_by, V.updated_at,
)  # fmt: skip
FILE_COLUMNS = (ManifestFileTable.path, ManifestFileTable.size_bytes, ManifestFileTable.sha256)
FILE = json_object(FILE_COLUMNS)
MISSING_FILE = json_object((*FILE_COLUMNS, func.concat("/v1/blobs/", ManifestFileTable.sha256).label("upload_url")))
FILES = (
    select(func.json_agg(aggregate_order_by(FILE, ManifestFileTable.path)))
    .where(ManifestFileTable.manifest_id == V.manifest_id)
    .scalar_subquery()
)
ALIASES = func.array(
    select(AliasTable.alias).where(AliasTable.version_id == V.id).order_by(AliasTable.alias).scalar_subquery()
)
USED_BY = func.array(
    select(ModelUseTable.used_by)
    .where(ModelUseTable.version_id == V.id)
    .order_by(ModelUseTable.used_by)
    .scalar_subquery()
)
IS_MISSING = (
    *(V.state == VersionState.UPLOADING, ManifestFileTable.manifest_id == V.manifest_id),
    ManifestFileTable.is_received.is_(False),
)
MISSING = (
    select(func.json_agg(aggregate_order_by(MISSING_FILE, ManifestFileTable.path))).where(*IS_MISSING).scalar_subquery()
)


ETAG = func.concat('"', V.row_version, '"')
DOCUMENT: tuple[Any, ...] = (
    V.id.label("row_id"),
    func.concat(V.name, ":", V.version).label("id"),
    *SHOWN,
    ManifestTable.size_bytes,
    ManifestTable.digest,
    ALIASES.label("aliases"),
    USED_BY.label("used_by"),
    ETAG.label("etag"),
)
# What can be large is not in lists.
WHOLE_DOCUMENT: tuple[Any, ...] = (*DOCUMENT, FILES.label("files"), V.sample_input, V.sample_output)
NOTHING = literal_column("'[]'::json")
AS_JSON = json_object(
    (*DOCUMENT[1:], NOTHING.label("files"), *(null().label(name) for name in ("sample_input", "sample_output")))
)
WHOLE_AS_JSON = json_object(
    (
        *DOCUMENT[1:],
        func.coalesce(FILES, NOTHING).label("files"),
        func.coalesce(MISSING, NOTHING).label("missing"),
        *(V.sample_input, V.sample_output),
    )
)


def documents(columns: tuple[Any, ...] = DOCUMENT) -> Select[*tuple[Any, ...]]:
    """Versions as they go over the wire."""
    return select(*columns).join_from(V, ManifestTable, ManifestTable.id == V.manifest_id)


def contract(row: Row[Any]) -> ModelVersion:
    """A document as its contract."""
    fields = dict(row._mapping)
    if fields.get("files", ()) is None:
        fields["files"] = []
    return ModelVersion.model_validate(fields)


def is_called(workspace_id: UUID, name: str, given: str) -> ColumnElement[bool]:
    """The version that `given` means: a number, `latest` for the highest ready one, or an alias."""
    kind, value = _reading(given)
    return _is_called(kind, workspace_id, name, value)


def _reading(given: str) -> tuple[str, str | int]:
    if given == "latest":
        return "latest", given
    if given.isascii() and given.isdigit():
        return "number", int(given) if len(given) <= MAX_DIGITS else -1
    return "alias", given


def _is_called(kind: str, workspace_id: Any, name: Any, value: Any) -> ColumnElement[bool]:
    model = (ModelTable.workspace_id == workspace_id, ModelTable.name == name)
    ours = and_(V.workspace_id == workspace_id, V.name == name)
    if kind == "latest":
        return and_(ours, V.version == select(ModelTable.latest_version).where(*model).scalar_subquery())
    if kind == "number":
        return and_(ours, V.version == value)
    alias = select(AliasTable.version_id).join(ModelTable, ModelTable.id == AliasTable.model_id)
    return and_(ours, V.id == alias.where(*model, AliasTable.alias == value).scalar_subquery())


def _show(kind: str) -> Statement:
    value = bindparam("value", type_=Integer() if kind == "number" else String())
    is_meant = _is_called(kind, bindparam("workspace_id", type_=Uuid()), bindparam("name", type_=String()), value)
    return compiled(documents((json_text(WHOLE_AS_JSON), ETAG)).where(is_meant))


SHOW = {kind: _show(kind) for kind in ("latest", "number", "alias")}


async def shown(statements: Statements, workspace_id: UUID, name: str, number: str) -> tuple[str, str]:
    """A version with all that is shown of it, as JSON, and its etag. Raises NotFound."""
    kind, value = _reading(number)
    row = await statements.row(SHOW[kind], {"workspace_id": workspace_id, "name": name, "value": value})
    if row is None:
        raise NotFound("model version", f"{name}:{number}")
    return row[0], row[1]


async def document(session: AsyncSession, workspace_id: UUID, name: str, number: str) -> tuple[UUID, ModelVersion]:
    """A version with all that is shown of it, and its manifest's id. Raises NotFound."""
    wanted = documents(WHOLE_DOCUMENT).add_columns(V.manifest_id).where(is_called(workspace_id, name, number))
    row = (await session.execute(wanted)).first()
    if row is None:
        raise NotFound("model version", f"{name}:{number}")
    return row.manifest_id, contract(row)


async def version(
    session: AsyncSession, workspace_id: UUID, name: str, number: str, *, lock: str | None = None
) -> VersionRow:
    """The rows of a version. Raises NotFound.

    `lock`: `use` keeps it from being deleted, `change` from being changed as well, until the transaction ends. Whoever
    changes a version locks its model first, in a statement of its own: what is read then is what others left.
    """
    if lock == "change":
        ours = (ModelTable.workspace_id == workspace_id, ModelTable.name == name)
        await session.execute(select(ModelTable.id).where(*ours).with_for_update())
    wanted = (
        select(V, ModelTable, ManifestTable)
        .join(ModelTable, V.model_id == ModelTable.id)
        .join(ManifestTable, V.manifest_id == ManifestTable.id)
        .where(is_called(workspace_id, name, number))
    )
    if lock:
        is_use = lock == "use"
        wanted = wanted.with_for_update(of=V, key_share=is_use, read=is_use).execution_options(populate_existing=True)
    row = (await session.execute(wanted)).tuples().first()
    if row is None:
        raise NotFound("model version", f"{name}:{number}")
    return row


async def model(session: AsyncSession, workspace_id: UUID, name: str, *, is_locked: bool = False) -> ModelTable:
    """The model of that name. Raises NotFound."""
    wanted = select(ModelTable).where(ModelTable.workspace_id == workspace_id, ModelTable.name == name)
    wanted = wanted.where(ModelTable.is_deleted.is_(False))
    row = await session.scalar(wanted.with_for_update() if is_locked else wanted)
    if row is None:
        raise NotFound("model", name)
    return row


async def versions_in_use(session: AsyncSession, version_ids: Sequence[UUID]) -> list[str]:
    """Who uses any of these versions: services, and aliases as `alias champion`."""
    found: set[str] = set()
    for ids in batched(version_ids):
        aliases = select(func.concat("alias ", AliasTable.alias)).where(AliasTable.version_id.in_(ids))
        uses = select(ModelUseTable.used_by).where(ModelUseTable.version_id.in_(ids))
        found |= {*await session.scalars(aliases), *await session.scalars(uses)}
    return sorted(found)
