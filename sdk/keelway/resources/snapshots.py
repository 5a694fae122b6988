"""Snapshots of source directories."""

from __future__ import annotations

from pathlib import Path

from keelway.contracts.snapshots import Snapshot, SnapshotCreate, SnapshotState, SnapshotUpload
from keelway.resources.base import SLOW_ANSWER_S, Resource, checked, segment
from keelway.uploads import Progress, folder_files, manifest, send_missing

_SKIPPED = {"__pycache__", ".git"}


class Snapshots(Resource):
    """`{w}/snapshots`."""

    def upload(self, directory: str | Path, *, progress: Progress | None = None) -> Snapshot:
        """A directory as it is now, without `.git`, `__pycache__` and `*.pyc`. Same content, same snapshot."""
        files = folder_files(Path(directory), skip=_is_skipped)
        body = checked(SnapshotCreate, files=manifest(files, progress))
        upload = self._send(SnapshotUpload, "POST", f"{self._workspace}/snapshots", body)
        if upload.state is SnapshotState.READY and not upload.missing:
            return upload
        send_missing(self._client, upload.missing, files, progress)
        return self._send(
            Snapshot, "POST", f"{self._workspace}/snapshots/{segment(upload.digest)}/commit", timeout_s=SLOW_ANSWER_S
        )

    def get(self, digest: str) -> Snapshot:
        """A snapshot by its digest."""
        return self._get(Snapshot, f"{self._workspace}/snapshots/{segment(digest)}")


def _is_skipped(name: str) -> bool:
    return name in _SKIPPED or name.endswith(".pyc")
