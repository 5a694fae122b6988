"""Snapshots of source directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keelway.contracts.snapshots import Snapshot, SnapshotCreate, SnapshotState, SnapshotUpload
from keelway.errors import InvalidInput
from keelway.resources.base import SLOW_ANSWER_S, Resource, checked, segment
from keelway.uploads import Progress, folder_files, manifest, send_missing

_SKIPPED = {
    "__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox",
    ".ipynb_checkpoints", ".DS_Store",
}  # fmt: skip
_VIRTUAL_ENVIRONMENT = "pyvenv.cfg"


class Snapshots(Resource):
    """`{w}/snapshots`."""

    def upload(
        self, directory: str | Path, *, needed: Sequence[str] = (), progress: Progress | None = None
    ) -> Snapshot:
        """A directory as it is now. Same content, same snapshot.

        Left out are virtual environments (folders that hold a `pyvenv.cfg`), `__pycache__`, `*.pyc`, `.git` and the
        caches of tools. InvalidInput when a file that is `needed` is among those.
        """
        files = snapshot_files(directory, needed=needed)
        return self.upload_files(files, progress=progress)

    def upload_files(self, files: dict[str, Path], *, progress: Progress | None = None) -> Snapshot:
        """These files, by the paths that they get in the snapshot."""
        for path, file in files.items():
            if not file.is_file():
                raise InvalidInput(f"{file} is not a file; it would be {path} in the snapshot")
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


def snapshot_files(directory: str | Path, *, needed: Sequence[str] = ()) -> dict[str, Path]:
    """The files of a directory's snapshot, by their paths. InvalidInput when one that is `needed` is left out of it."""
    files = folder_files(Path(directory), skip=_is_skipped)
    for path in needed:
        if Path(path).as_posix() not in files:
            raise InvalidInput(f"{path} lies in a folder that a snapshot leaves out; move it elsewhere")
    return files


def _is_skipped(path: Path) -> bool:
    return path.name in _SKIPPED or path.suffix == ".pyc" or (path / _VIRTUAL_ENVIRONMENT).is_file()
