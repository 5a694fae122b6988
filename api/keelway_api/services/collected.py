"""What replicas collected, as their nodes sent it: files in the object store, and a row for each.

They belong to the name of a service, not to the service: they stay when it is deleted, until somebody deletes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import Select, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.collected import CollectedDeletion, CollectedFile, day_of
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs.objects import StoredBlob, StoredFile
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import DigestMismatch, NotFound
from keelway_api.services import queries
from keelway_api.services.observation import replica_owners
from keelway_api.services.tables import CollectedFileTable, ServiceTable
from keelway_api.workspaces import service as workspaces

BATCH = 1000


@dataclass(frozen=True)
class Place:
    """Where a file belongs among those of its service."""

    model: str
    version: str
    designation: str
    file: str

    @property
    def day(self) -> date:
        """The day of its first row."""
        return day_of(self.file)

    @property
    def path(self) -> str:
        """Its path as people see it."""
        return f"{self.model}/{self.version}/{self.designation}/{self.day:%Y/%m/%d}/{self.file}"


@dataclass(frozen=True)
class _OneObject(StoredBlob):
    """Bytes that lie in one object, under a name that says what they are."""

    key: str

    @property
    def keys(self) -> list[str]:
        """That one."""
        return [self.key]


async def receive(
    sessions: Sessions,
    store: BlobStore,
    *,
    node: str,
    replica: str,
    place: Place,
    sha256: str,
    body: AsyncIterator[bytes],
) -> None:
    """Keep a file of a replica of this node. One that is kept already stays as it is: it was sent, but not answered.

    Raises NotFound, DigestMismatch, DependencyAway.
    """
    async with sessions() as session:
        service, workspace = await _owner(session, node, replica)
        is_kept = await session.scalar(_rows(service.workspace_id, service.name, path=place.path)) is not None
    data = b"".join([chunk async for chunk in body])
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise DigestMismatch("The body has another sha256.", expected=sha256, actual=actual, size_bytes=len(data))
    if is_kept:
        return
    await store.put(_key(workspace, service.name, place.path), data)
    async with sessions.begin() as session:
        values = {"path": place.path, "designation": place.designation, "day": place.day}
        owner = {"workspace_id": service.workspace_id, "service": service.name}
        row = insert(CollectedFileTable).values(**owner, **values, size_bytes=len(data), sha256=sha256)
        await session.execute(row.on_conflict_do_nothing())


async def _owner(session: AsyncSession, node: str, replica: str) -> tuple[ServiceTable, str]:
    """The service of a replica of this node, and the name of its workspace. Raises NotFound."""
    service_id = (await replica_owners(session, node, [replica])).get(replica)
    service = await session.get(ServiceTable, service_id) if service_id else None
    if service is None:
        raise NotFound("replica", replica)
    return service, (await workspaces.names_of(session, [service.workspace_id]))[service.workspace_id]


async def list_files(
    session: AsyncSession,
    scope: Scope,
    service: str,
    *,
    day: date | None,
    designation: str | None,
    after: str | None,
    limit: int,
) -> Sequence[CollectedFileTable]:
    """Files by path. Raises NotFound when there is no such service and nothing that one of that name has left."""
    wanted = _rows(scope.workspace_id, service)
    if day is not None:
        wanted = wanted.where(CollectedFileTable.day == day)
    if designation is not None:
        wanted = wanted.where(CollectedFileTable.designation == designation)
    if after is not None:
        wanted = wanted.where(CollectedFileTable.path > after)
    rows = (await session.scalars(wanted.order_by(CollectedFileTable.path).limit(limit))).all()
    if not rows:
        await _require(session, scope, service)
    return rows


async def stored_file(session: AsyncSession, scope: Scope, service: str, path: str) -> StoredFile:
    """Where the bytes of a file lie. Raises NotFound."""
    row = await session.scalar(_rows(scope.workspace_id, service, path=path))
    if row is None:
        raise NotFound("collected file", path)
    blob = _OneObject(
        row.sha256, row.size_bytes, row.id, max(1, row.size_bytes), (), _key(scope.workspace, service, path)
    )
    return StoredFile(path, blob)


async def delete_files(
    sessions: Sessions, store: BlobStore, scope: Scope, service: str, *, until: date | None
) -> CollectedDeletion:
    """Delete the files of all days, or of those up to `until`, a batch at a time. Raises NotFound like the list.

    Objects first: what is still listed after a crash can be deleted again.
    """
    wanted = _rows(scope.workspace_id, service)
    if until is not None:
        wanted = wanted.where(CollectedFileTable.day <= until)
    async with sessions() as session:
        rows = (await session.scalars(wanted.order_by(CollectedFileTable.path).limit(BATCH))).all()
        if not rows:
            await _require(session, scope, service)
    await store.delete(_key(scope.workspace, service, row.path) for row in rows)
    async with sessions.begin() as session:
        ids = [row.id for row in rows]
        gone = delete(CollectedFileTable).where(CollectedFileTable.id.in_(ids)).returning(CollectedFileTable.size_bytes)
        sizes = (await session.scalars(gone)).all()
        if sizes:
            detail = {"files": len(sizes), "until": until.isoformat() if until else None}
            subject = f"services/{service}"
            workspace_id = scope.workspace_id
            await audit.record(
                session, scope.principal, "service.collected.delete", subject, workspace_id=workspace_id, **detail
            )
    return CollectedDeletion(deleted_files=len(sizes), deleted_bytes=sum(sizes), is_complete=len(rows) < BATCH)


def contract(row: CollectedFileTable) -> CollectedFile:
    """A file as it goes over the wire."""
    return CollectedFile.model_validate(row, from_attributes=True)


async def _require(session: AsyncSession, scope: Scope, service: str) -> None:
    if await session.scalar(_rows(scope.workspace_id, service).limit(1)) is None:
        await queries.service_named(session, scope.workspace_id, service)


def _rows(workspace_id: UUID, service: str, *, path: str | None = None) -> Select[CollectedFileTable]:
    rows = select(CollectedFileTable).where(
        CollectedFileTable.workspace_id == workspace_id, CollectedFileTable.service == service
    )
    return rows if path is None else rows.where(CollectedFileTable.path == path)


def _key(workspace: str, service: str, path: str) -> str:
    return f"modeldata/{workspace}/{service}/{path}"
