"""A manifest opened in one statement: its row, its files, and which of their bytes need not be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, BigInteger, String, Uuid, bindparam, exists, func, insert, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from keelway.contracts.files import ManifestFile, manifest_digest
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.tables import BlobTable
from keelway_api.errors import TooLarge
from keelway_api.manifests.tables import ManifestFileTable, ManifestTable
from keelway_api.statements import Statement, compiled, run_in

FILES = func.unnest(
    bindparam("paths", type_=ARRAY(String)),
    bindparam("sizes", type_=ARRAY(BigInteger)),
    bindparam("digests", type_=ARRAY(String)),
).table_valued("path", "size_bytes", "sha256", name="listed")


@dataclass(frozen=True)
class Opening:
    """What a statement that opens a manifest is made of: the rows that it adds."""

    manifest: CTE
    files: CTE


def opening() -> Opening:
    """The rows of a new manifest; bytes that this caller could read anyway count as received.

    A digest that only others hold is never a shortcut: knowing a hash must not give its bytes.
    """
    visible = bindparam("visible", type_=ARRAY(Uuid))
    may_be_read = (
        exists()
        .where(ManifestFileTable.sha256 == BlobTable.sha256, ManifestFileTable.is_received)
        .where(ManifestFileTable.manifest_id == ManifestTable.id)
        .where(or_(visible.is_(None), ManifestTable.workspace_id == func.any(visible)))
    )
    readable = (
        select(BlobTable.sha256, BlobTable.size_bytes)
        .where(BlobTable.sha256 == func.any(bindparam("digests", type_=ARRAY(String))))
        .where(BlobTable.damaged_at.is_(None), may_be_read)
        .order_by(BlobTable.sha256)
        .with_for_update(key_share=True, read=True)  # until this manifest refers to them, they may not be deleted
        .cte("readable")
    )
    manifest = (
        insert(ManifestTable)
        .values(
            id=bindparam("manifest_id", type_=Uuid()),
            workspace_id=bindparam("workspace_id", type_=Uuid()),
            token_id=bindparam("token_id", type_=String()),
            is_sealed=False,
            digest=bindparam("digest", type_=String()),
            size_bytes=bindparam("size_bytes", type_=BigInteger()),
        )
        .returning(ManifestTable)
        .cte("manifest")
    )
    listed = FILES.render_derived(with_types=False)
    is_readable = (readable.c.sha256 == listed.c.sha256) & (readable.c.size_bytes == listed.c.size_bytes)
    columns = ("manifest_id", "path", "size_bytes", "sha256", "is_received")
    rows = (
        select(manifest.c.id, listed.c.path, listed.c.size_bytes, listed.c.sha256, readable.c.sha256.is_not(None))
        .select_from(manifest)
        .join(listed, onclause=true())
        .outerjoin(readable, is_readable)
    )
    files = insert(ManifestFileTable).from_select(columns, rows).returning(ManifestFileTable).cte("files")
    return Opening(manifest, files)


def check_sizes(files: Sequence[ManifestFile], limit_bytes: int) -> None:
    """Raises TooLarge naming a file that would be refused after it was sent."""
    for file in files:
        if file.size_bytes > limit_bytes:
            raise TooLarge(limit_bytes, file.path)


def values(scope: Scope, files: Sequence[ManifestFile]) -> dict[str, Any]:
    """The parameters of a statement with an opening."""
    visible = scope.principal.visible_workspaces
    return {
        "manifest_id": uuid7(),
        "workspace_id": scope.workspace_id,
        "token_id": scope.principal.token_id,
        "digest": manifest_digest(files),
        "size_bytes": sum(file.size_bytes for file in files),
        "paths": [file.path for file in files],
        "sizes": [file.size_bytes for file in files],
        "digests": [file.sha256 for file in files],
        "visible": None if visible is None else list(visible),
    }


def _statement() -> Statement:
    opened = opening()
    return compiled(select(opened.manifest.c.id, select(func.count()).select_from(opened.files).scalar_subquery()))


OPEN = _statement()


async def open_manifest(session: AsyncSession, scope: Scope, files: Sequence[ManifestFile]) -> ManifestTable:
    """A new manifest, as a part of a transaction."""
    row = await run_in(session, OPEN, values(scope, files))
    assert row is not None
    return await session.get_one(ManifestTable, row[0])
