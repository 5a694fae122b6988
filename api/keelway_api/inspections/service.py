"""Versions get their labels: at once when all their bytes are known, else by an operation that a worker carries out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Role
from keelway.contracts.operations import TERMINAL, Operation, OperationKind, OperationState
from keelway.contracts.safety import INSPECTOR, MAX_FINDINGS, BlobFinding, InspectBlob, Inspections, InspectSpec, judged
from keelway_api import events
from keelway_api.audit import service as audit
from keelway_api.auth.dependencies import Scope
from keelway_api.auth.principal import NOBODY
from keelway_api.blobs.tables import BlobTable
from keelway_api.errors import WrongState
from keelway_api.inspections.tables import BlobInspectionTable, VersionInspectionTable
from keelway_api.manifests.tables import ManifestFileTable
from keelway_api.models.tables import ModelVersionTable
from keelway_api.operations import kinds
from keelway_api.operations import service as operations
from keelway_api.operations.tables import OperationTable
from keelway_api.workspaces import service as workspaces

V, F, B, Waiting = ModelVersionTable, ManifestFileTable, BlobInspectionTable, VersionInspectionTable
DEADLINE_S = 86_400.0  # it may wait for a worker for long: nobody waits for it
BLOBS_AT_ONCE = 2000
MAX_TRIES = 5
FIRST_PAUSE_S = 60
RESTARTS, OPEN_AT_MOST = 20, 50  # a tick, and of all: what waits for long must not stand in the way of deployments
IS_INSPECTED = exists().where(B.sha256 == F.sha256, B.inspector == INSPECTOR)


async def begin(session: AsyncSession, scope: Scope, version: ModelVersionTable) -> None:
    """A version was sealed: it has its label now, or later by an operation. Nothing of it waits for a worker."""
    if await _is_covered(session, version):
        await _label(session, version)
    else:
        await _start(session, scope, version)


async def inspect(session: AsyncSession, scope: Scope, version: ModelVersionTable) -> Operation:
    """Look at a version again, or for the first time; the operation that is under way when there is one.

    The version is locked by this transaction.
    """
    waiting = await session.get(Waiting, version.id, populate_existing=True)
    if waiting is not None and waiting.operation_id is not None:
        under_way = await session.get(OperationTable, waiting.operation_id)
        if under_way is not None and under_way.state not in TERMINAL:
            return await operations.contract(session, under_way)
    await session.execute(delete(Waiting).where(Waiting.version_id == version.id))
    return await operations.contract(session, await _start(session, scope, version))


async def _start(session: AsyncSession, scope: Scope, version: ModelVersionTable) -> OperationTable:
    operation = await operations.submit(
        session,
        scope,
        OperationKind.INSPECT,
        subject=_subject(version),
        spec={"version_id": str(version.id)},
        deadline_s=DEADLINE_S,
    )
    started = {"operation_id": operation.id, "next_at": None}
    noted = insert(Waiting).values(version_id=version.id, tries=0, **started)
    await session.execute(noted.on_conflict_do_update(index_elements=["version_id"], set_=started))
    return operation


async def take_over(session: AsyncSession, operation_id: UUID, body: Inspections) -> None:
    """Keep what an attempt found. Raises StaleAttempt, NotFound, and WrongState for another inspector's findings."""
    operation = await operations.require_attempt(session, operation_id, body.epoch)
    if operation.kind != OperationKind.INSPECT:
        raise WrongState(f"operation {operation_id}", f"a {operation.kind}", "one of kind inspect")
    if body.inspector != INSPECTOR:
        raise WrongState("the inspector", f"{body.inspector!r}", f"{INSPECTOR!r}: worker and API are of two releases")
    found = {item.sha256: item for item in body.items}
    there = select(BlobTable.sha256).where(BlobTable.sha256.in_(found)).order_by(BlobTable.sha256)
    for sha256 in await session.scalars(there.with_for_update(read=True, key_share=True)):
        item = found[sha256]
        said = {
            "inspector": body.inspector,
            "kind": item.kind,
            "findings": [finding.model_dump(mode="json") for finding in item.findings],
            "inspected_at": func.now(),
        }
        kept = insert(B).values(sha256=sha256, **said)
        await session.execute(kept.on_conflict_do_update(index_elements=["sha256"], set_=said))


async def restart_due(session: AsyncSession) -> None:
    """For the clock: start the inspections again that ended without a label, some at a time."""
    is_open = (OperationTable.ended_at.is_(None), OperationTable.kind == OperationKind.INSPECT)
    under_way = await session.scalar(select(func.count()).select_from(OperationTable).where(*is_open)) or 0
    room = min(RESTARTS, OPEN_AT_MOST - under_way)
    if room <= 0:
        return
    due = select(V).join(Waiting, Waiting.version_id == V.id).where(Waiting.next_at <= func.now())
    due = due.order_by(Waiting.next_at).limit(room).with_for_update(of=V, key_share=True, skip_locked=True)
    for version in list(await session.scalars(due)):
        await _start(session, await workspaces.own_scope(session, version.workspace_id), version)


async def _expand(session: AsyncSession, operation: OperationTable) -> dict[str, Any]:
    version = await session.get(V, UUID(operation.spec["version_id"]))
    blobs: list[InspectBlob] = []
    if version is not None:  # else it was deleted: nothing is left to look at
        wanted = select(F.sha256, F.size_bytes).where(F.manifest_id == version.manifest_id, ~IS_INSPECTED).distinct()
        rows = await session.execute(wanted.order_by(F.sha256).limit(BLOBS_AT_ONCE))
        blobs = [InspectBlob(sha256=row.sha256, size_bytes=row.size_bytes) for row in rows]
    return InspectSpec(blobs=blobs).model_dump()


async def _ended(session: AsyncSession, operation: OperationTable) -> None:
    # The version before what waits for it, as everybody locks them.
    wanted = select(V).where(V.id == UUID(operation.spec["version_id"])).with_for_update(key_share=True)
    version = await session.scalar(wanted)
    waiting = await session.get(Waiting, version.id, populate_existing=True) if version else None
    if version is None or waiting is None or waiting.operation_id != operation.id:
        return
    if operation.state == OperationState.SUCCEEDED and await _is_covered(session, version):
        await _label(session, version)
        return
    has_progress = operation.state == OperationState.SUCCEEDED and (operation.result or {}).get("inspected")
    waiting.tries = 0 if has_progress else waiting.tries + (operation.attempts > 0)
    pause_s = 0 if has_progress else FIRST_PAUSE_S * 4 ** max(waiting.tries - 1, 0)
    waiting.next_at = func.now() + timedelta(seconds=pause_s) if waiting.tries < MAX_TRIES else None
    await session.flush()


async def _is_covered(session: AsyncSession, version: ModelVersionTable) -> bool:
    unknown = exists().where(F.manifest_id == version.manifest_id, ~IS_INSPECTED)
    return not await session.scalar(select(unknown))


async def _label(session: AsyncSession, version: ModelVersionTable) -> None:
    wanted = select(F.path, B.kind, B.findings).join(B, B.sha256 == F.sha256)
    rows = (await session.execute(wanted.where(F.manifest_id == version.manifest_id))).tuples()
    found = judged((path, kind, [BlobFinding(**one) for one in findings]) for path, kind, findings in rows)
    now = (await session.execute(select(func.now()))).scalar_one()
    safety = {
        "label": found.label,
        "inspector": INSPECTOR,
        "inspected_at": now.isoformat(),
        "kinds": found.kinds,
        "findings_by_severity": found.by_severity,
        "findings": [finding.model_dump(mode="json") for finding in found.findings[:MAX_FINDINGS]],
    }
    # Not through the row: what others found out about a version is no change of it that an If-Match would mind.
    labelled = update(V).where(V.id == version.id).values(safety=safety, safety_label=found.label)
    await session.execute(labelled.execution_options(synchronize_session=False))
    await session.execute(delete(Waiting).where(Waiting.version_id == version.id))
    said = {"label": found.label, "findings": found.by_severity}
    await audit.record(
        session, NOBODY, "model.version.inspect", _subject(version), workspace_id=version.workspace_id, **said
    )
    await events.emit(
        session,
        "model.inspected",
        workspace_id=version.workspace_id,
        subject=_subject(version),
        name=version.name,
        version=version.version,
        **said,
    )


def _subject(version: ModelVersionTable) -> str:
    return f"models/{version.name}/versions/{version.version}"


kinds.register(OperationKind.INSPECT, kinds.Kind(role=Role.CONTRIBUTOR, expand=_expand, ended=_ended))
