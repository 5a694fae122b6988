"""What became of versions' bytes: uploads that nobody finishes, versions whose blobs are damaged or mended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.models import VersionState
from keelway_api.blobs.tables import BlobTable
from keelway_api.manifests import service as manifests
from keelway_api.manifests.tables import ManifestFileTable
from keelway_api.models import service
from keelway_api.models.tables import ModelTable, ModelVersionTable
from keelway_api.workspaces.tables import WorkspaceTable

BATCH = 200


async def expire_uploads(session: AsyncSession, age: timedelta) -> int:
    """Remove versions whose upload nobody went on with for so long; their numbers are not given again."""
    return await manifests.give_up(session, ModelVersionTable, ModelVersionTable.state == VersionState.UPLOADING, age)


def _has_damage():
    return (
        exists()
        .where(ManifestFileTable.manifest_id == ModelVersionTable.manifest_id)
        .where(BlobTable.sha256 == ManifestFileTable.sha256, BlobTable.damaged_at.is_not(None))
    )


async def judge(session: AsyncSession) -> None:
    """Mark ready versions with damaged bytes `corrupt`, and those `ready` again whose bytes are right again."""
    if await session.scalar(select(exists().where(BlobTable.damaged_at.is_not(None)))):
        await _move(session, VersionState.READY, VersionState.CORRUPT, "model.corrupt", _has_damage())
    await _move(session, VersionState.CORRUPT, VersionState.READY, "model.mended", ~_has_damage())


async def _move(session: AsyncSession, before: VersionState, after: VersionState, event: str, condition) -> None:
    found = select(ModelVersionTable.model_id).where(ModelVersionTable.state == before, condition).distinct()
    for model_id in list(await session.scalars(found.order_by(ModelVersionTable.model_id).limit(BATCH))):
        # The model first, as everybody does who changes a version.
        await session.execute(select(ModelTable.id).where(ModelTable.id == model_id).with_for_update())
        wanted = select(ModelVersionTable).where(ModelVersionTable.state == before, condition)
        wanted = wanted.where(ModelVersionTable.model_id == model_id).order_by(ModelVersionTable.id).with_for_update()
        for version in list(await session.scalars(wanted)):
            version.state, version.updated_at = after, func.now()
            await session.flush()
            await service.announce(session, event, version)
        await service.find_latest(session, model_id)


async def used_by(session: AsyncSession, digests: Sequence[str]) -> dict[str, list[str]]:
    """'workspace/name:version path' of every file of a finished version, by the digest of its bytes."""
    if not digests:
        return {}
    rows = await session.execute(
        select(
            ManifestFileTable.sha256,
            func.concat(
                WorkspaceTable.name, "/", ModelTable.name, ":", ModelVersionTable.version, " ", ManifestFileTable.path
            ).label("file"),
        )
        .join(ModelVersionTable, ModelVersionTable.manifest_id == ManifestFileTable.manifest_id)
        .join(ModelTable, ModelTable.id == ModelVersionTable.model_id)
        .join(WorkspaceTable, WorkspaceTable.id == ModelTable.workspace_id)
        .where(ManifestFileTable.sha256.in_(digests), ModelVersionTable.state != VersionState.UPLOADING)
        .order_by("file")
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.sha256, []).append(row.file)
    return found
