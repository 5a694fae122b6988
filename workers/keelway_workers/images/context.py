"""Build contexts: a tar whose bytes follow from names and contents alone."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

EPOCH = 1_577_836_800  # 2020-01-01: zip files, and so wheels, know no time before 1980


class ContextTar:
    """A tar that is written file by file: owners, times and order do not depend on where it is written."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self._tar = tarfile.open(path, "x", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._check = check

    def text(self, name: str, text: str) -> None:
        """A file with this text."""
        self.bytes(name, text.encode())

    def bytes(self, name: str, data: bytes) -> None:
        """A file with these bytes."""
        info = _neutral(tarfile.TarInfo(name), 0o644)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def file(self, name: str, path: Path, owner: int = 0) -> None:
        """A copy of a file. `owner` is the id of its user and group."""
        self._check()
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            info = _neutral(tarfile.TarInfo(name), 0o755 if status.st_mode & 0o100 else 0o644)
            info.size = status.st_size
            info.uid = info.gid = owner
            self._tar.addfile(info, file)

    def contents(self, folder: Path) -> None:
        """All that is in a folder, links as links."""
        for path in walk(folder):
            inner = path.relative_to(folder).as_posix()
            if path.is_symlink():
                info = _neutral(tarfile.TarInfo(inner), 0o777)
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
                self._tar.addfile(info)
            elif path.is_dir():
                self.folder(inner)
            else:
                self.file(inner, path)

    def folder(self, name: str, owner: int = 0) -> None:
        """An empty folder. `owner` is the id of its user and group."""
        info = _neutral(tarfile.TarInfo(name), 0o755)
        info.type, info.uid, info.gid = tarfile.DIRTYPE, owner, owner
        self._tar.addfile(info)

    def close(self) -> None:
        """The end of the tar."""
        self._tar.close()


def walk(folder: Path) -> Iterator[Path]:
    """Everything under a folder, by name, folders before what is in them."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path)


def _neutral(info: tarfile.TarInfo, mode: int) -> tarfile.TarInfo:
    info.mode, info.mtime = mode, EPOCH
    return info
