"""A hidden folder in which a download comes together, so that nothing shows before all of it is right.

Its name can be computed by whoever knows what is fetched, and the target may be a folder that many write to: a folder
of that name is trusted only when it is ours and closed to all others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from keelway.errors import DamagedDownload, InvalidInput

if sys.platform != "win32":
    import fcntl

_ABANDONED_S = 24 * 3600.0


class Staging:
    """Files on their way to `target`: finished ones in `files`, others in `parts`.

    `paths` are relative, and all below one top level entry.
    """

    def __init__(self, target: Path, folder: Path, paths: Collection[Path]) -> None:
        self._target, self._paths = target, paths
        self.files, self.parts = folder / "files", folder / "parts"
        self._drop_unlisted()

    def publish(self, *, exist_ok: bool) -> None:
        """Have the finished files show in the target, on the disk. Raises InvalidInput when one is there.

        All at once, by one rename; over a folder that is there file by file.
        """
        self._drop_unlisted()
        self._sync(self.files)
        top = next(iter(self._paths)).parts[0]
        if not os.path.lexists(self._target / top):
            (self.files / top).rename(self._target / top)
        elif exist_ok:
            self._replace()
        else:
            raise InvalidInput(f"{self._target / top} exists already")
        sync_folder(self._target)

    def _replace(self) -> None:
        for path in self._paths:
            check_below(self._target, path)  # once more: somebody may have made a link while the bytes came
            (self._target / path).parent.mkdir(parents=True, exist_ok=True)
            (self.files / path).replace(self._target / path)
        self._sync(self._target)

    def _sync(self, root: Path) -> None:
        for folder in {folder for path in self._paths for folder in path.parents if folder.parts}:
            sync_folder(root / folder)

    def _drop_unlisted(self) -> None:
        """Remove everything that is neither one of the files nor a folder of theirs, links among them."""
        files = {self.files / path for path in self._paths}
        folders = {self.files, self.parts}.union(*(file.parents for file in files))
        for name in (self.files, self.parts):
            if name.is_symlink():
                name.unlink()
        for inside, folder_names, file_names in os.walk(self.files):
            for path in [Path(inside, name) for name in [*folder_names, *file_names]]:
                mode = path.lstat().st_mode
                if not (stat.S_ISREG(mode) and path in files) and not (stat.S_ISDIR(mode) and path in folders):
                    _remove(path)
                    folder_names[:] = [name for name in folder_names if name != path.name]


@contextlib.contextmanager
def staging(target: Path, key: str, paths: Collection[Path]) -> Iterator[Staging]:
    """The staging folder, in `target`, of what `key` names.

    What an attempt that broke off left in it is there again at the next one; while another process is at it, or when
    somebody else made it, it is a folder of our own, and nothing is kept of an attempt that breaks off.
    """
    target.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    with _own_folder(target, key) as folder:
        try:
            yield Staging(target, folder, paths)
            shutil.rmtree(folder)
        finally:
            _remove_empty(folder)


def check_below(target: Path, path: Path) -> None:
    """Raises DamagedDownload when a relative path leads out of the target through a link."""
    if not (target / path).resolve().is_relative_to(target.resolve()):
        raise DamagedDownload(repr(path.as_posix()), f"a link in {target} leads outside of it")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if sys.platform == "win32":  # which opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _own_folder(target: Path, key: str) -> Iterator[Path]:
    shared = target / f".keelway-{key}.part"
    with contextlib.suppress(OSError):  # it is there, or a link of that name is
        shared.mkdir(mode=0o700)
    with _locked(shared) as is_ours:
        if is_ours:
            yield shared
            return
    alone = target / f".keelway-{uuid.uuid4().hex}.part"
    alone.mkdir(mode=0o700)
    with _locked(alone):  # so that nobody sweeps it away
        try:
            yield alone
        finally:
            shutil.rmtree(alone, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether a folder was made by this user, is closed to all others, and is this call's alone."""
    if sys.platform == "win32":
        yield False
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # a link, which is not followed
        yield False
        return
    try:
        yield _is_private(os.fstat(descriptor)) and _is_free(folder, descriptor)
    finally:
        os.close(descriptor)


def _is_private(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _is_free(folder: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it may have removed it since it was opened.
        return os.path.samestat(folder.lstat(), os.fstat(descriptor))
    except OSError:  # another has it, or had it, or this file system knows no locks
        return False


def _sweep(target: Path) -> None:
    """Remove the folders that killed processes of this user had for themselves: nobody would go on with them."""
    for folder in target.glob(f".keelway-{'[0-9a-f]' * 32}.part"):
        with contextlib.suppress(OSError), _locked(folder) as is_ours:
            if is_ours and time.time() - folder.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _remove_empty(folder: Path) -> None:
    for inner, _, __ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(inner).rmdir()
