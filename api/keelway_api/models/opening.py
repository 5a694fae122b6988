"""A version opened in one statement: number, manifest, files, audit, the answer, and the answer kept for a repetition.

It is what many clients do at once, and each round trip would hold the model's row, for which the others wait.
"""

from __future__ import annotations

from typing import Any

import psycopg
from fastapi import Response
from pydantic_core import to_json
from sqlalchemy import CTE, Integer, String, Uuid, bindparam, func, insert, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from uuid_utils.compat import uuid7

from keelway.contracts.models import ModelVersionCreate, ModelVersionUpload, VersionState
from keelway_api import documents
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.db import Sessions
from keelway_api.documents import json_text
from keelway_api.errors import DependencyAway
from keelway_api.idempotency import IdempotencyTable, OnceRequest
from keelway_api.manifests import opening as manifests
from keelway_api.manifests.tables import ManifestFileTable, ManifestTable
from keelway_api.models.queries import DocumentOf
from keelway_api.models.tables import ModelTable, ModelVersionTable
from keelway_api.statements import Statement, Statements, compiled, run_in

SAID = {name: getattr(ModelVersionTable, name).type for name in ModelVersionCreate.model_fields if name != "files"}
CREATED = 201
FIRST_WAS_BEFORE = (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable)  # the request of this key


def _text(name: str) -> Any:
    return bindparam(name, type_=String())


def _numbered() -> CTE:
    """The model with its counter raised; the row's lock makes concurrent registrations take different numbers."""
    statement = upsert(ModelTable).values(
        id=bindparam("model_id", type_=Uuid()),
        workspace_id=bindparam("workspace_id", type_=Uuid()),
        name=_text("name"),
        last_version=1,
        is_deleted=False,
        created_by=_text("actor"),
    )
    raised = {"last_version": ModelTable.last_version + 1, "is_deleted": False}
    return (
        statement.on_conflict_do_update(index_elements=["workspace_id", "name"], set_=raised)
        .returning(ModelTable.id, ModelTable.last_version)
        .cte("model")
    )


def _version(manifest: CTE) -> CTE:
    model = _numbered()
    said = {name: bindparam(f"said_{name}", type_=kind) for name, kind in SAID.items()}
    columns: dict[str, Any] = {
        "id": bindparam("version_id", type_=Uuid()),
        "model_id": model.c.id,
        "workspace_id": manifest.c.workspace_id,
        "name": _text("name"),
        "version": model.c.last_version,
        "state": literal(VersionState.UPLOADING.value, String()),
        "manifest_id": manifest.c.id,
        "created_by": _text("actor"),
        "row_version": literal(1, Integer()),
        **said,
    }
    row = insert(ModelVersionTable).from_select(list(columns), select(*columns.values()), include_defaults=False)
    return row.returning(ModelVersionTable).cte("version")


def _statement(*, has_key: bool) -> Statement:
    opened = manifests.opening()
    version = _version(opened.manifest)
    rows = (ModelVersionTable, version), (ManifestTable, opened.manifest), (ManifestFileTable, opened.files)
    document = (
        select(json_text(DocumentOf(*(aliased(table, cte) for table, cte in rows)).whole).label("document"))
        .select_from(version)
        .join(opened.manifest, opened.manifest.c.id == version.c.manifest_id)
        .cte("document")
    )
    subject = func.concat("models/", version.c.name, "/versions/", version.c.version)
    wanted = select(document.c.document).add_cte(audit.added(subject, version))
    if has_key:
        kept = {
            "token_id": _text("token_id"),
            "key": _text("key"),
            "request_sha256": bindparam("request_sha256", type_=IdempotencyTable.request_sha256.type),
            "status": literal(CREATED, Integer()),
            "headers": bindparam("headers", type_=JSONB()),
            "body": document.c.document,
        }
        # No ON CONFLICT: for a key that is there already, nothing at all happens.
        wanted = wanted.add_cte(insert(IdempotencyTable).from_select(list(kept), select(*kept.values())).cte("kept"))
    return compiled(wanted)


OPEN = _statement(has_key=False)
OPEN_ONCE = _statement(has_key=True)


def _values(scope: Scope, name: str, body: ModelVersionCreate) -> dict[str, Any]:
    said = body.model_dump(include=set(SAID))
    requirements = body.resource_requirements
    said["resource_requirements"] = requirements.model_dump(exclude_none=True) if requirements else None
    return {
        **manifests.values(scope, body.files),
        **audit.values(scope.principal, "model.version.open", workspace_id=scope.workspace_id),
        **{f"said_{field}": _stored(SAID[field], value) for field, value in said.items()},
        "model_id": uuid7(),
        "version_id": uuid7(),
        "name": name,
    }


def _stored(kind: Any, value: Any) -> Any:
    return to_json(value).decode() if isinstance(kind, JSONB) and value is not None else value


async def answer(
    statements: Statements, sessions: Sessions, scope: Scope, name: str, body: ModelVersionCreate, once: OnceRequest
) -> Response:
    """A new version in state `uploading`, and where to send the bytes that are missing.

    Raises IdempotencyMismatch, IdempotencyInFlight.
    """
    values = _values(scope, name, body)
    if once.key is None:
        row = await statements.row(OPEN, values)
    else:
        kept = {"key": once.key, "request_sha256": await once.digest(), "headers": "{}"}
        try:
            row = await statements.row(OPEN_ONCE, values | kept)
        except (psycopg.errors.UniqueViolation, DependencyAway) as error:
            if not isinstance(error.__cause__ or error, FIRST_WAS_BEFORE):
                raise
            async with sessions.begin() as session:
                return await once.answer(session, CREATED, lambda: open_version(session, scope, name, body))
    assert row is not None
    return documents.answer(row[0], status=CREATED)


async def open_version(session: AsyncSession, scope: Scope, name: str, body: ModelVersionCreate) -> ModelVersionUpload:
    """The same as a part of a transaction."""
    row = await run_in(session, OPEN, _values(scope, name, body))
    assert row is not None
    return ModelVersionUpload.model_validate_json(row[0])
