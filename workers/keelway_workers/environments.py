"""Environments: built once per identity, renamed into place when complete, shared by all replicas of a node."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import uv

from keelway.contracts.environments import lock_digest
from keelway.contracts.services import EnvironmentSpec
from keelway_workers.failures import WorkFailed, disk_full
from keelway_workers.node_dir import Locked, NodeDir, lock
from keelway_workers.pythons import Interpreter, choose_python
from keelway_workers.subtree import Finished, Subtree

WHEELS = Path(__file__).parent / "wheels"
CONDA_PROGRAM = Path(__file__).with_name("install_conda.py")
LOG_TAIL = 50
LOCK_PAUSE_S = 0.1
NOT_PASSED_ON = ("KEELWAY_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "__PYVENV")
LOCK, CONDA_LOCK = "lock.txt", "conda-lock.json"
WHEELS_VARIABLE = "KEELWAY_WHEELS"  # what a lock calls the folder of private wheels
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


class Fetch(Protocol):
    """How blobs come to the node's cache."""

    def __call__(self, digests: Iterable[str], *, check: Callable[[], None]) -> None:
        """Have all of them here; what `check` raises ends it."""
        ...


class EnvironmentBuilder:
    """Gives environments of one node; any number of threads and processes may ask for the same one at once."""

    def __init__(self, node: NodeDir, pythons: Callable[[], Sequence[Interpreter]], fetch: Fetch | None = None) -> None:
        self._node = node
        self._pythons = pythons
        self._fetch = fetch

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
        if lock_digest(spec.lock, spec.conda_lock) != spec.lock_digest:
            raise WorkFailed("damaged-bytes", f"the lock of {spec.name}:{spec.version} does not have its digest")
        _require_platform(spec)
        return identify(spec, self._python(spec), runtime_wheel())

    def _python(self, spec: EnvironmentSpec) -> Interpreter:
        """The interpreter to build with. One that conda installs is none of this node's, but runs on its platform."""
        pythons = self._pythons()
        if spec.conda_lock is None:
            return choose_python(spec.python_version, pythons)
        return Interpreter(spec.python_version, pythons[0].platform if pythons else platform.machine(), "")

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
        place = self._node.environments / identity.digest
        folder.mkdir(mode=0o700)
        try:
            self._lay_out(spec, folder, subtree)
            env = {**passed_on(os.environ), WHEELS_VARIABLE: str(folder / WHEELS.name)}
            for command in self._commands(spec, folder, place):
                say(f"$ {command}")
                left_s = max(ends_at - time.monotonic(), 1.0)
                judge(command, subtree.run(command.argv, env=env, on_line=say, timeout_s=left_s))
            mend_scripts(folder, place)
            (folder / "identity.json").write_text(json.dumps(asdict(identity), indent=2), encoding="utf-8")
            _move_into_place(folder, place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _lay_out(self, spec: EnvironmentSpec, folder: Path, subtree: Subtree) -> None:
        if spec.wheels and self._fetch is not None:
            self._fetch([wheel.sha256 for wheel in spec.wheels], check=subtree.check)
        lay_out(spec, folder, self._node)

    def _commands(self, spec: EnvironmentSpec, folder: Path, place: Path) -> list[Command]:
        if spec.conda_lock is None:
            return commands(folder, self._python(spec).path, folder / LOCK, runtime_wheel())
        return conda_commands(folder, place, self._node.conda_packages, runtime_wheel(), folder)


def lay_out(spec: EnvironmentSpec, folder: Path, node: NodeDir) -> None:
    """Put into the folder what the commands read: the lock, and private wheels, which the node has."""
    (folder / LOCK).write_text(spec.lock, encoding="utf-8")
    if spec.conda_lock is not None:
        (folder / CONDA_LOCK).write_text(spec.conda_lock, encoding="utf-8")
    if not spec.wheels:
        return
    (folder / WHEELS.name).mkdir()
    for wheel in spec.wheels:
        if Path(wheel.path).name != wheel.path:
            raise WorkFailed("damaged-bytes", f"{wheel.path!r} is not the name of a wheel")
        # uv compares the bytes with the lock's hash: those in the cache may have rotted.
        shutil.copyfile(node.blob(wheel.sha256), folder / WHEELS.name / wheel.path)


@dataclass(frozen=True)
class Command:
    """A program that a build runs: `shown` is what people are told of it, `name` what it is called when it fails."""

    name: str
    shown: str
    argv: list[str]

    def __str__(self) -> str:
        return self.shown


def uv_command(*words: str) -> Command:
    """A call of uv."""
    name = " ".join(words[:2]) if words[0] == "pip" else words[0]
    return Command(f"uv {name}", f"uv {' '.join(words)}", [uv.find_uv_bin(), *words])


QUIET = ("--no-progress", "--color=never")


def commands(folder: Path, python: str, lock_file: Path, wheel: Path) -> list[Command]:
    """What is run, in order: a venv that may be moved, the locked packages, our runtime, a check of it all."""
    into = ["--python", str(folder / "bin" / "python")]
    install = ["pip", "install", *QUIET, "--compile-bytecode", *into]
    return [
        uv_command("venv", *QUIET, "--allow-existing", "--relocatable", "--python", python, str(folder)),
        uv_command(*install, "--require-hashes", "-r", str(lock_file)),
        uv_command(*install, "--no-deps", str(wheel)),
        uv_command("pip", "check", *QUIET, *into),
    ]


def conda_commands(folder: Path, place: Path, cache: Path, wheel: Path, locks: Path) -> list[Command]:
    """What is run where conda has locked packages: those with their python, then pip's on top of them, our runtime.

    `locks` is where the lock's files lie. Without a check at the end: conda's packages do not always say to pip what
    they are.
    """
    argv = [sys.executable, "-I", str(CONDA_PROGRAM), str(locks / CONDA_LOCK), str(folder), str(place), str(cache)]
    into = ["--python", str(folder / "bin" / "python"), "--break-system-packages"]
    install = ["pip", "install", *QUIET, "--compile-bytecode", *into, "--no-deps"]
    return [
        Command("installing conda packages", f"install conda packages of {locks / CONDA_LOCK}", argv),
        uv_command(*install, "--require-hashes", "-r", str(locks / LOCK)),
        uv_command(*install, str(wheel)),
    ]


def mend_scripts(folder: Path, place: Path) -> None:
    """Have scripts that name the interpreter of `folder` name that of `place`, where it will be.

    It stands in their first line, or in the second where the path is too long for the kernel.
    """
    old, new = f"{folder}/bin/".encode(), f"{place}/bin/".encode()
    for script in (folder / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        with script.open("rb") as file:
            head = file.read(2) + file.readline() + file.readline()
            if not head.startswith(b"#!") or old not in head:
                continue
            rest = file.read()
        script.write_bytes(head.replace(old, new) + rest)


def _require_platform(spec: EnvironmentSpec) -> None:
    here = f"linux-{platform.machine()}"
    if spec.platform not in {None, here}:
        raise WorkFailed(
            "platform-not-available",
            f"{spec.name}:{spec.version} was locked for {spec.platform}, and this node is {here}",
            details={"wanted": spec.platform, "available": [here]},
        )


def passed_on(environ: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The environment for uv: the operator's index, proxy and certificate settings, none of our secrets."""
    kept = {name: value for name, value in environ.items() if not name.startswith(NOT_PASSED_ON)}
    return {**kept, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}


def judge(command: Command, finished: Finished) -> None:
    """WorkFailed unless a command of a build ended well: what it said last, or that the disk is full."""
    if finished.returncode == 0 and not finished.timed_out:
        return
    tail = finished.tail[-LOG_TAIL:]
    if any(sign in line for line in tail for sign in NO_SPACE):
        raise WorkFailed("disk-full", f"the node has no disk space left ({command.name})", log_tail=tail)
    how = "took too long and was ended" if finished.timed_out else f"ended with {finished.returncode}"
    raise WorkFailed(
        "environment-build-failed",
        f"{command.name} {how}: {tail[-1] if tail else 'it said nothing'}",
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
