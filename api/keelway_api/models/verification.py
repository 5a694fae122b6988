"""Whether a version's bytes are still what its manifest says: read again on demand, as scrubbing does by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from keelway.contracts.models import DamagedFile, Verification, VersionState
from keelway_api.auth.dependencies import Scope
from keelway_api.blobs import scrub
from keelway_api.blobs.objects import StoredFile
from keelway_api.blobs.scrub import Checked
from keelway_api.blobs.store import BlobStore
from keelway_api.db import Sessions
from keelway_api.errors import WrongState
from keelway_api.manifests import service as manifests
from keelway_api.models import integrity, queries

ROUND_S = 10.0  # an answer is not to take much longer, but one file at least is read


async def verify(
    sessions: Sessions, store: BlobStore, scope: Scope, name: str, number: str, *, after: str
) -> Verification:
    """Read the files behind the path `after` for some seconds. What is damaged is noted as scrubbing notes it.

    Raises NotFound, WrongState while the version is uploading, CorruptBytes when the manifest has not the version's
    digest, DependencyAway.
    """
    async with sessions.begin() as session:
        version, _, manifest = await queries.version(session, scope.workspace_id, name, number)
        id = f"{version.name}:{version.version}"
        if version.state == VersionState.UPLOADING:
            raise WrongState(id, version.state, "a version whose upload is committed")
        await manifests.note_lost(session, manifest.id)
        files = await manifests.stored_files(session, manifest.id)
    await manifests.check_digest(manifest.digest, files)
    left = sorted((file for file in files if file.path > after), key=lambda file: file.path)
    checked = await _read(sessions, store, left)
    async with sessions.begin() as session:
        await integrity.judge(session)
    read = left[: len(checked)]
    return Verification(
        id=id,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        checked_files=len(read),
        checked_bytes=sum(file.blob.size_bytes for file in read),
        damaged=[
            DamagedFile(path=file.path, sha256=file.blob.sha256, damage=found.damage)
            for file, found in zip(read, checked, strict=True)
            if found.damage
        ],
        remaining_files=len(left) - len(read),
        next_after=read[-1].path if len(read) < len(left) else None,
    )


async def _read(sessions: Sessions, store: BlobStore, files: Sequence[StoredFile]) -> list[Checked]:
    """What was found of the first of them, in their order; the same bytes are read once."""
    until, found, checked = time.monotonic() + ROUND_S, dict[str, Checked](), list[Checked]()
    for file in files:
        sha256 = file.blob.sha256
        if sha256 not in found:
            if checked and time.monotonic() > until:
                break
            found[sha256] = await scrub.check(sessions, store, file.blob)
        checked.append(found[sha256])
    return checked
