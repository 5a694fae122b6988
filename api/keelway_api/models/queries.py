"""SELECTs of models; each starts from one workspace, and reads a version with all that is shown of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Integer,
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

from keelway.contracts.models import ModelVersionUpload, VersionState
from keelway_api.db import batched
from keelway_api.documents import json_object, json_text
from keelway_api.errors import NotFound
from keelway_api.manifests.tables import ManifestFileTable, ManifestTable
from keelway_api.models.tables import AliasTable, ModelTable, ModelUseTable, ModelVersionTable, VersionRow
from keelway_api.statements import Statement, Statements, compiled

V = ModelVersionTable
MAX_DIGITS = 9  # what surely fits the column

NOTHING = literal_column("'[]'::json")
FINDINGS, NO_FINDINGS = literal_column("'{findings}'"), literal_column("'[]'::jsonb")


class DocumentOf:
    """What is shown of a version, read from these rows: of the tables, or of a statement that adds them."""

    def __init__(self, version: Any, manifest: Any, file: Any) -> None:
        self.etag = func.concat('"', version.row_version, '"')
        self.columns: tuple[Any, ...] = (
            func.concat(version.name, ":", version.version).label("id"),
            *(version.name, version.version, version.state, version.description, version.tags, version.properties),
            *(version.framework, version.framework_version, version.resource_requirements, version.run),
            *(version.datasets, version.requires_approval, version.approved_at, version.approved_by),
            *(version.signature_key, version.signature_added_at, version.signature_added_by),
            *(version.created_at, version.created_by, version.updated_at, manifest.size_bytes, manifest.digest),
            _listed(AliasTable.alias, AliasTable.version_id == version.id).label("aliases"),
            _listed(ModelUseTable.used_by, ModelUseTable.version_id == version.id).label("used_by"),
            self.etag.label("etag"),
        )
        # What can be large is not in lists.
        short_safety = func.jsonb_set(version.safety, FINDINGS, NO_FINDINGS).label("safety")
        large = [
            short_safety,
            NOTHING.label("files"),
            *(null().label(name) for name in ("sample_input", "sample_output")),
        ]
        self.short = json_object((*self.columns, *large))
        entry = (file.path, file.size_bytes, file.sha256)
        upload = (*entry, func.concat("/v1/blobs/", file.sha256).label("upload_url"))
        ours = file.manifest_id == version.manifest_id
        is_missing = (version.state == VersionState.UPLOADING, file.is_received.is_(False))
        self.files = _aggregated(entry, file.path, ours)
        missing = _aggregated(upload, file.path, ours, *is_missing)
        samples = (version.sample_input, version.sample_output)
        self.whole = json_object(
            (*self.columns, self.files.label("files"), missing.label("missing"), version.safety, *samples)
        )


def _listed(column: Any, condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.array(select(column).where(condition).order_by(column).scalar_subquery())


def _aggregated(columns: Sequence[Any], order: Any, *conditions: ColumnElement[bool]) -> ColumnElement[Any]:
    files = func.json_agg(aggregate_order_by(json_object(columns), order))
    return func.coalesce(select(files).where(*conditions).scalar_subquery(), NOTHING)


DOCUMENT = DocumentOf(V, ManifestTable, ManifestFileTable)
# Names of this version elsewhere, in any order.
NAMED = (
    func.array(select(AliasTable.alias).where(AliasTable.version_id == V.id).scalar_subquery()),
    func.array(select(ModelUseTable.used_by).where(ModelUseTable.version_id == V.id).scalar_subquery()),
)


def documents(*columns: Any) -> Select[*tuple[Any, ...]]:
    """Versions, with columns of theirs and of their manifests."""
    return select(*columns).join_from(V, ManifestTable, ManifestTable.id == V.manifest_id)


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
    return compiled(documents(json_text(DOCUMENT.whole), DOCUMENT.etag).where(is_meant))


SHOW = {kind: _show(kind) for kind in ("latest", "number", "alias")}


async def shown(statements: Statements, workspace_id: UUID, name: str, number: str) -> tuple[str, str]:
    """A version with all that is shown of it, as JSON, and its etag. Raises NotFound."""
    kind, value = _reading(number)
    row = await statements.row(SHOW[kind], {"workspace_id": workspace_id, "name": name, "value": value})
    if row is None:
        raise NotFound("model version", f"{name}:{number}")
    return row[0], row[1]


async def written(session: AsyncSession, workspace_id: UUID, name: str, number: str) -> tuple[str, str]:
    """The same as this transaction sees it. Raises NotFound."""
    wanted = documents(json_text(DOCUMENT.whole), DOCUMENT.etag).where(is_called(workspace_id, name, number))
    row = (await session.execute(wanted)).first()
    if row is None:
        raise NotFound("model version", f"{name}:{number}")
    return row[0], row[1]


async def document(session: AsyncSession, workspace_id: UUID, name: str, number: str) -> ModelVersionUpload:
    """A version with all that is shown of it, and what is missing while it is uploading. Raises NotFound."""
    text, _ = await written(session, workspace_id, name, number)
    return ModelVersionUpload.model_validate_json(text)


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
