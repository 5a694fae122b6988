"""An app root: models and source as a script finds them, in copies of its own, hashed on the way."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from keelway.contracts.base import MODEL_NAME
from keelway.contracts.files import FileEntry, checked_path
from keelway.contracts.services import ModelFiles
from keelway_workers.cache import BlobCache, Check
from keelway_workers.failures import WorkFailed, disk_full

APP = "azureml-app"  # what the app root is called where it is a folder among others
MODELS = "azureml-models"
SOURCE = "source"
FICLONE = 0x40049409
CHUNK = 1 << 20
AT_ONCE = 4


class Served(Protocol):
    """What is laid out for a script: a replica's spec, or a package's."""

    @property
    def entry_script(self) -> str: ...
    @property
    def snapshot_files(self) -> list[FileEntry]: ...
    @property
    def models(self) -> list[ModelFiles]: ...


@dataclass(frozen=True)
class Placement:
    """One file's bytes and the path where a script finds them."""

    sha256: str
    path: Path


def lay_out(root: Path, spec: Served, cache: BlobCache, *, check: Check) -> None:
    """Make a fresh app root: `azureml-models/<name>/<version>/...` and `source/...`.

    Copies, so that a script that writes to its files cannot change the cache. WorkFailed `damaged-bytes` when even a
    new download does not have its digest, or a path would leave the root. What fails, also by `check`, leaves no root.
    """
    shutil.rmtree(root, ignore_errors=True)
    try:
        _lay_out(root, spec, cache, check)
    except BaseException as error:
        shutil.rmtree(root, ignore_errors=True)
        if isinstance(error, OSError):
            raise disk_full(error) or error from None
        raise


def _lay_out(root: Path, spec: Served, cache: BlobCache, check: Check) -> None:
    for folder in (root, root / MODELS, root / SOURCE, root / "tmp"):
        folder.mkdir(mode=0o700, parents=True)
    _place_all(list(_placements(root.resolve(), spec)), cache, check)


def lay_out_files(folder: Path, files: Iterable[FileEntry], cache: BlobCache, *, check: Check) -> None:
    """Copies of these files in a folder. WorkFailed as for an app root."""
    root = folder.resolve()
    _place_all([_placement(root, root, file) for file in files], cache, check)


def _place_all(placements: Sequence[Placement], cache: BlobCache, check: Check) -> None:
    cache.fetch((placement.sha256 for placement in placements), check=check)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        list(pool.map(lambda placement: _place(placement, cache, check), placements))


def scoring_variables(app_root: PurePath, spec: Served) -> dict[str, str]:
    """What tells the runtime, and a script, where everything is."""
    models = app_root / MODELS
    only = spec.models[0] if len(spec.models) == 1 else None
    return {
        "AML_APP_ROOT": str(app_root),
        "AZUREML_ENTRY_SCRIPT": spec.entry_script,
        "AZUREML_SOURCE_DIRECTORY": SOURCE,
        "AZUREML_MODEL_DIR": str(models / only.name / str(only.version) if only else models),
    }


def digests(spec: Served) -> set[str]:
    """Every blob that an app root of this spec is laid out from."""
    files = [*spec.snapshot_files, *(file for model in spec.models for file in model.files)]
    return {file.sha256 for file in files}


def _placements(root: Path, spec: Served) -> Iterator[Placement]:
    for file in spec.snapshot_files:
        yield _placement(root, root / SOURCE, file)
    for model in spec.models:
        if not re.match(MODEL_NAME, model.name):
            raise WorkFailed("unsafe-path", f"{model.name!r} is no name for a model")
        folder = root / MODELS / model.name / str(model.version)
        folder.mkdir(parents=True, exist_ok=True)
        for file in model.files:
            yield _placement(root, folder, file)


def _placement(root: Path, folder: Path, file: FileEntry) -> Placement:
    try:
        path = (folder / checked_path(file.path)).resolve()
    except ValueError as error:
        raise WorkFailed("unsafe-path", f"{file.path!r}: {error}") from None
    if not path.is_relative_to(root) or path == root:
        raise WorkFailed("unsafe-path", f"{file.path!r} leads out of the app root")
    return Placement(file.sha256, path)


def _place(placement: Placement, cache: BlobCache, check: Check) -> None:
    placement.path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        blob = cache.path(placement.sha256, check=check)
        if copy_hashed(blob, placement.path, check=check) == placement.sha256:
            return
        placement.path.unlink()
        cache.evict(placement.sha256)
    raise WorkFailed(
        "damaged-bytes",
        f"the bytes of {placement.path.name} do not have their digest, also after a new download",
        details={"path": placement.path.name, "sha256": placement.sha256},
    )


def copy_hashed(source: Path, target: Path, *, check: Check) -> str:
    """Copy to a new file, sharing blocks where the file system can; the sha256 of what the copy holds."""
    with source.open("rb") as original, target.open("x+b") as copy:
        is_shared = _reflinked(original.fileno(), copy.fileno())
        digest = hashlib.sha256()
        while chunk := (copy if is_shared else original).read(CHUNK):
            check()
            digest.update(chunk)
            if not is_shared:
                copy.write(chunk)
        return digest.hexdigest()


def _reflinked(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        return False
    return os.fstat(source).st_size == os.fstat(target).st_size
