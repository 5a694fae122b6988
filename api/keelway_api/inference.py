"""What an inference config and a list of models refer to, found and checked: for all that serves models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.services import InferenceConfig, ModelFiles
from keelway_api.auth.dependencies import Scope
from keelway_api.environments import service as environments
from keelway_api.environments.tables import EnvironmentTable, EnvironmentVersionTable
from keelway_api.errors import InvalidRequest
from keelway_api.manifests import service as manifests
from keelway_api.models import service as models
from keelway_api.models.tables import VersionRow
from keelway_api.snapshots import service as snapshots
from keelway_api.snapshots.tables import SnapshotTable


@dataclass(frozen=True)
class Inference:
    """Models that may be deployed, the snapshot of their script, and the environment it runs in."""

    versions: list[VersionRow]
    snapshot: SnapshotTable
    environment: tuple[EnvironmentVersionTable, EnvironmentTable]
    config: InferenceConfig

    @property
    def models(self) -> list[str]:
        """`name:version` of each, with the version that a word such as `latest` stood for."""
        return [f"{row[1].name}:{row[0].version}" for row in self.versions]

    @property
    def exact_config(self) -> dict[str, Any]:
        """The config as it is kept: with the environment's version."""
        version, environment = self.environment
        return self.config.model_dump() | {"environment": f"{environment.name}:{version.version}"}

    async def note_use(self, session: AsyncSession, used_by: str) -> None:
        """None of its models may be deleted while `used_by` is there."""
        for row in self.versions:
            await models.add_use(session, row, used_by)


async def resolve(session: AsyncSession, scope: Scope, references: Sequence[str], config: InferenceConfig) -> Inference:
    """What these refer to; it stays until this transaction ends.

    Raises NotFound, WrongState, ApprovalNeeded, UnsafeModel and NotInspected for what they refer to, InvalidRequest for
    a script that is not there.
    """
    versions = [await models.require_deployable(session, scope, reference) for reference in references]
    snapshot = await snapshots.require_ready(session, scope, config.snapshot)
    await _check_script(session, snapshot, config.entry_script)
    name, _, number = config.environment.rpartition(":")
    environment = await environments.get_row(session, scope, name, number)
    return Inference(versions, snapshot, environment, config)


async def _check_script(session: AsyncSession, snapshot: SnapshotTable, entry_script: str) -> None:
    if await manifests.stored_files(session, snapshot.manifest_id, path=entry_script):
        return
    files = await manifests.files_of(session, snapshot.manifest_id)
    scripts = ", ".join(file.path for file in files if file.path.endswith(".py")) or "no Python file"
    raise InvalidRequest(
        "body.inference_config.entry_script", f"{entry_script!r} is not in the snapshot; it holds {scripts[:500]}"
    )


async def model_files(session: AsyncSession, scope: Scope, reference: str) -> ModelFiles:
    """A model version for a node, in whatever state it is by now.

    Bytes are verified on the node, and one damaged model must not stop all others.
    """
    version, model, manifest = await models.find_version(session, scope, reference)
    files = await manifests.files_of(session, manifest.id)
    return ModelFiles(name=model.name, version=version.version, digest=manifest.digest, files=files)
