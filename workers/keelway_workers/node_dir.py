"""The node directory: where everything lies, and how a file in it is replaced in one step."""
# ruff: noqa: N818  (named after what happened, as the SDK's errors are)

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPLICA_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._\-]{0,254}$")
IDENTITY = "identity"
DAY_S = 86_400
IMAGE_PARTS_KEPT_S = 7 * DAY_S
SCRATCH, LOCK = "scratch-", ".lock"
REMOVED = "removed-"


@dataclass(frozen=True)
class NodeDir:
    """Paths under one node directory. Only this class knows its layout."""

    root: Path

    @property
    def desired(self) -> Path:
        """What should run here, as the API last said it."""
        return self.root / "desired.json"

    @property
    def environments(self) -> Path:
        """Built environments by identity."""
        return self.root / "environments"

    @property
    def conda_packages(self) -> Path:
        """Conda packages that were fetched, unpacked: environments share their files."""
        return self.root / "conda-packages"

    @property
    def images(self) -> Path:
        """Layers of images by identity, and what is known of base images."""
        return self.root / "images"

    @property
    def bytecode(self) -> Path:
        """Compiled packages, for images."""
        return self.root / "bytecode"

    @property
    def replicas(self) -> Path:
        """One folder a replica."""
        return self.root / "replicas"

    @property
    def tmp(self) -> Path:
        """Half-written files, in scratch folders, and what is being removed."""
        return self.root / "tmp"

    @cached_property
    def identity(self) -> str:
        """What tells this node from others on one engine: chosen once, and kept."""
        file = self.root / IDENTITY
        if not file.is_file():
            write_atomically(file, uuid.uuid4().hex)
        return file.read_text(encoding="utf-8").strip()

    def blob(self, sha256: str) -> Path:
        """Where the bytes of this digest lie, or would lie."""
        return self.root / "blobs" / sha256[:2] / sha256[2:4] / sha256

    def replica(self, name: str) -> Path:
        """The folder of a replica; ValueError when the name could lead elsewhere."""
        if not REPLICA_NAME.match(name):
            raise ValueError(f"{name!r} is no name for a replica")
        return self.replicas / name

    def replica_names(self) -> list[str]:
        """The replicas that have a folder here."""
        if not self.replicas.is_dir():
            return []
        return sorted(folder.name for folder in self.replicas.iterdir() if REPLICA_NAME.match(folder.name))

    def make(self) -> None:
        """Create the directory and its folders; only their owner may look inside."""
        blobs = self.root / "blobs"
        for folder in (self.root, self.environments, self.images, self.bytecode, self.replicas, self.tmp, blobs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for half-written files, removed afterwards, or by `sweep_tmp` when this process was killed.

        It is owned by a lock and not by a pid: processes of one node may live in several containers.
        """
        folder = self.tmp / f"{SCRATCH}{uuid.uuid4().hex}"
        owned = folder.with_name(folder.name + LOCK)
        with lock(owned, wait=False):
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                owned.unlink(missing_ok=True)

    def sweep_tmp(self) -> None:
        """Remove what killed processes left behind: scratch folders without an owner, anything older than a day."""
        for path in list(self.tmp.iterdir()):
            if path.name.startswith(SCRATCH) and path.is_dir():
                _remove_unowned(path)
            elif path.name.startswith(REMOVED) or _is_older(path, DAY_S):
                _remove(path)

    def sweep_images(self) -> None:
        """Remove layers and bytecode that no build has used for a week: a build makes them again.

        Who uses some says so by `used`. Layers that are being made, or put into an image, are left alone.
        """
        for layers in self.images.iterdir():
            if layers.is_dir() and _is_older(layers, IMAGE_PARTS_KEPT_S):
                with suppress(Locked), lock(self.image_lock(layers.name), wait=False):
                    _remove(layers)
        for bytecode in self.bytecode.iterdir():
            if _is_older(bytecode, IMAGE_PARTS_KEPT_S):
                _remove(bytecode)

    def image_lock(self, identity: str) -> Path:
        """The lock of who makes the layers of an image."""
        return self.images / f".lock-{identity[:32]}"


def used(path: Path) -> Path:
    """Note that something kept is in use now; the same path."""
    with suppress(FileNotFoundError):
        os.utime(path)
    return path


def _remove_unowned(scratch: Path) -> None:
    owned = scratch.with_name(scratch.name + LOCK)
    with suppress(Locked), lock(owned, wait=False):
        shutil.rmtree(scratch, ignore_errors=True)
        owned.unlink(missing_ok=True)


def _is_older(path: Path, age_s: float) -> bool:
    try:
        return time.time() - path.lstat().st_mtime >= age_s
    except FileNotFoundError:  # another process sweeps too
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a crash, meets the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Locked(Exception):
    """Somebody else holds the lock; `owner` is what they wrote into it."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


@contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold an exclusive lock on a file, which ends with this process at the latest. Locked when not waiting."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Locked(os.read(descriptor, 100).decode(errors="replace").strip()) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
