"""Environments: built once per identity, renamed into place when complete, shared by all replicas of a node."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import uv

from keelway.contracts.services import EnvironmentSpec
from keelway_workers.failures import WorkFailed, disk_full
from keelway_workers.node_dir import Locked, NodeDir, lock
from keelway_workers.pythons import Interpreter, choose_python
from keelway_workers.subtree import Finished, Subtree

WHEELS = Path(__file__).parent / "wheels"
LOG_TAIL = 50
LOCK_PAUSE_S = 0.1
NOT_PASSED_ON = ("KEELWAY_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "__PYVENV")
NO_SPACE = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")


@dataclass(frozen=True)
class Identity:
    """Everything that makes one environment differ from another."""

    lock_digest: str
    python_version: str
    base_image_digest: str | None
    platform: str
    runtime_wheel: str

    @property
    def digest(self) -> str:
        """The identity as one word: sha256 over its canonical JSON."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def runtime_wheel(folder: Path = WHEELS) -> Path:
    """The one wheel of the scoring runtime that every environment gets."""
    wheels = sorted(folder.glob("keelway_runtime-*.whl"))
    if len(wheels) == 1:
        return wheels[0]
    found = ", ".join(wheel.name for wheel in wheels) or "none"
    raise WorkFailed(
        "runtime-wheel-missing",
        f"this worker needs exactly one keelway_runtime wheel in its package, but has: {found}. "
        "In a source checkout `make setup` builds it.",
    )


def identify(spec: EnvironmentSpec, python: Interpreter, wheel: Path) -> Identity:
    """What the environment of this lock will be on this node."""
    return Identity(spec.lock_digest, python.version, None, python.platform, _digest(wheel, wheel.stat().st_mtime_ns))


@cache
def _digest(path: Path, _mtime_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class BuiltEnvironment:
    """An environment that is there: its identity, its folder."""

    identity: str
    path: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"


class EnvironmentBuilder:
    """Gives environments of one node; any number of threads and processes may ask for the same one at once."""

    def __init__(
        self, node: NodeDir, pythons: Callable[[], Sequence[Interpreter]], *, wheel: Path | None = None
    ) -> None:
        self._node = node
        self._pythons = pythons
        self._wheel = wheel

    def find(self, spec: EnvironmentSpec) -> BuiltEnvironment | None:
        """The environment when it is built already."""
        built = self._built(self._identify(spec))
        return built if built.path.is_dir() else None

    def ensure(
        self, spec: EnvironmentSpec, *, subtree: Subtree, say: Callable[[str], None], timeout_s: float = 3600
    ) -> BuiltEnvironment:
        """The environment, built first when it is not there. WorkFailed says what uv or the disk refused."""
        try:
            return self._ensure(spec, subtree, say, time.monotonic() + timeout_s)
        except OSError as error:
            raise disk_full(error) or error from None

    def _ensure(
        self, spec: EnvironmentSpec, subtree: Subtree, say: Callable[[str], None], ends_at: float
    ) -> BuiltEnvironment:
        identity = self._identify(spec)
        built = self._built(identity)
        while not built.path.is_dir():
            subtree.check()
            try:
                with lock(_lock_file(self._node, identity.digest), wait=False):
                    remove_leftovers(self._node, identity.digest)
                    if not built.path.is_dir():
                        self._build(spec, identity, subtree, say, ends_at)
            except Locked:
                # Somebody builds the same; polled, so that a cancelled attempt does not wait for them.
                time.sleep(LOCK_PAUSE_S)
        return built

    def _identify(self, spec: EnvironmentSpec) -> Identity:
        found = hashlib.sha256(spec.lock.encode()).hexdigest()
        if found != spec.lock_digest:
            raise WorkFailed("damaged-bytes", f"the lock of {spec.name}:{spec.version} does not have its digest")
        python = choose_python(spec.python_version, self._pythons())
        return identify(spec, python, runtime_wheel())

    def _built(self, identity: Identity) -> BuiltEnvironment:
        return BuiltEnvironment(identity.digest, self._node.environments / identity.digest)

    def _build(
        self,
        spec: EnvironmentSpec,
        identity: Identity,
        subtree: Subtree,
        say: Callable[[str], None],
        ends_at: float,
    ) -> None:
        folder = self._node.environments / f".tmp-{identity.digest[:32]}-{uuid.uuid4().hex}"
        python = choose_python(spec.python_version, self._pythons())
        folder.mkdir(mode=0o700)
        try:
            lock_file = folder / "lock.txt"
            lock_file.write_text(spec.lock, encoding="utf-8")
            for argv in commands(folder, python.path, lock_file, runtime_wheel()):
                say(f"$ uv {' '.join(argv)}")
                left_s = max(ends_at - time.monotonic(), 1.0)
                command = [uv.find_uv_bin(), *argv]
                _judge(argv, subtree.run(command, env=passed_on(os.environ), on_line=say, timeout_s=left_s))
            (folder / "identity.json").write_text(json.dumps(asdict(identity), indent=2), encoding="utf-8")
            _move_into_place(folder, self._node.environments / identity.digest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def commands(folder: Path, python: str, lock_file: Path, wheel: Path) -> list[list[str]]:
    """What uv is told, in order: a venv that may be moved, the locked packages, our runtime, a check of it all."""
    quiet = ["--no-progress", "--color=never"]
    into = ["--python", str(folder / "bin" / "python")]
    install = ["pip", "install", *quiet, "--compile-bytecode", *into]
    return [
        ["venv", *quiet, "--allow-existing", "--relocatable", "--python", python, str(folder)],
        [*install, "--require-hashes", "-r", str(lock_file)],
        [*install, "--no-deps", str(wheel)],
        ["pip", "check", *quiet, *into],
    ]


def passed_on(environ: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The environment for uv: the operator's index, proxy and certificate settings, none of our secrets."""
    kept = {name: value for name, value in environ.items() if not name.startswith(NOT_PASSED_ON)}
    return {**kept, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}


def _judge(argv: list[str], finished: Finished) -> None:
    if finished.returncode == 0 and not finished.timed_out:
        return
    tail = finished.tail[-LOG_TAIL:]
    what = " ".join(argv[:2]) if argv[0] == "pip" else argv[0]
    if any(sign in line for line in tail for sign in NO_SPACE):
        raise WorkFailed("disk-full", f"the node has no disk space left (uv {what})", log_tail=tail)
    how = "took too long and was ended" if finished.timed_out else f"ended with {finished.returncode}"
    raise WorkFailed(
        "environment-build-failed",
        f"uv {what} {how}: {tail[-1] if tail else 'it said nothing'}",
        details={"exit_code": finished.returncode},
        log_tail=tail,
    )


def _move_into_place(folder: Path, place: Path) -> None:
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        # Somebody on a shared directory without locks was first; theirs is the same.


def _lock_file(node: NodeDir, digest: str) -> Path:
    return node.environments / f".lock-{digest[:32]}"


def remove_leftovers(node: NodeDir, digest: str) -> None:
    """Remove half-built folders of one identity; only for who holds its lock."""
    for folder in node.environments.glob(f".tmp-{digest[:32]}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def sweep_environments(node: NodeDir) -> None:
    """Remove half-built folders that nobody is working on: their lock is free."""
    for folder in list(node.environments.glob(".tmp-*")):
        digest = folder.name.split("-")[1]
        try:
            with lock(_lock_file(node, digest), wait=False):
                remove_leftovers(node, digest)
        except Locked:
            continue
