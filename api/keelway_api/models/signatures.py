"""Signatures of versions: checked to be about the version's files, kept as they were sent, never vouched for.

Whose key it is only those can say who have it from elsewhere: they verify for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio.to_thread
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.signatures import Envelope, SignedFile, check_statement, most_bytes, opened
from keelway_api.auth.dependencies import Scope
from keelway_api.db import Sessions
from keelway_api.errors import NotFound, SignatureInvalid, TooLarge
from keelway_api.manifests.tables import ManifestFileTable
from keelway_api.models import queries, service
from keelway_api.models.changes import etag
from keelway_api.models.tables import ModelSignatureTable, ModelVersionTable, VersionRow
from keelway_api.preconditions import Precondition


async def put(
    sessions: Sessions, scope: Scope, name: str, number: str, bundle: bytes, precondition: Precondition
) -> tuple[str, str]:
    """Keep a signature with a version, instead of one it has; all that is shown of the version then, and its etag.

    Raises NotFound, WrongState, PreconditionFailed, TooLarge, SignatureInvalid.
    """
    async with sessions() as session:
        row = await queries.version(session, scope.workspace_id, name, number)
        _check(row, precondition)
        files = await _files(session, row[0])
    # Not in a transaction: a hundred thousand files take a while. They are the same for ever once it is ready.
    envelope = await anyio.to_thread.run_sync(_checked, bundle, files)
    async with sessions.begin() as session:
        row = await queries.version(session, scope.workspace_id, name, str(row[0].version), lock="change")
        _check(row, precondition)
        await _keep(session, scope, row[0], bundle.decode(), envelope)
        return await queries.written(session, scope.workspace_id, name, str(row[0].version))


def _check(row: VersionRow, precondition: Precondition) -> None:
    service.require_ready(row)
    precondition.check(etag(row[0]))


async def _files(session: AsyncSession, version: ModelVersionTable) -> Sequence[Any]:
    wanted = select(ManifestFileTable.path, ManifestFileTable.sha256)
    return (await session.execute(wanted.where(ManifestFileTable.manifest_id == version.manifest_id))).all()


async def bundle(session: AsyncSession, scope: Scope, name: str, number: str) -> str:
    """The signature of a version as it was sent. Raises NotFound."""
    version, _, _ = await queries.version(session, scope.workspace_id, name, number)
    wanted = select(ModelSignatureTable.bundle).where(ModelSignatureTable.version_id == version.id)
    found = await session.scalar(wanted)
    if found is None:
        raise NotFound("signature", f"{version.name}:{version.version}")
    return found


def _checked(bundle: bytes, files: Sequence[SignedFile]) -> Envelope:
    if len(bundle) > (limit := most_bytes(files)):
        raise TooLarge(limit)
    try:
        envelope = opened(bundle)
        check_statement(envelope.statement, files)
    except ValueError as error:
        text = str(error)
        raise SignatureInvalid(f"{text[:1].upper()}{text[1:]}.") from None
    return envelope


async def _keep(
    session: AsyncSession, scope: Scope, version: ModelVersionTable, bundle: str, envelope: Envelope
) -> None:
    added = insert(ModelSignatureTable).values(version_id=version.id, bundle=bundle)
    await session.execute(
        added.on_conflict_do_update(index_elements=[ModelSignatureTable.version_id], set_={"bundle": bundle})
    )
    version.signature_key = envelope.key
    version.signature_added_at = version.updated_at = func.now()
    version.signature_added_by = scope.principal.name
    await session.flush()
    await service.record(session, scope, "model.version.sign", version, key=envelope.key)
    await service.announce(session, "model.signed", version, key=envelope.key)
