"""The packages of an image as folders, one for each layer: installed here by uv, compiled by the image's Python.

Installed on the node and not in the image's build, so that an index's password, a proxy and a company's certificate
authority never come near the image, and so that a build needs no network. Only wheels are installed: nothing of a
package runs here. See docs/decisions/0022.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from keelway.contracts.services import EnvironmentSpec
from keelway_workers.environments import (
    LOCK,
    QUIET,
    WHEELS,
    WHEELS_VARIABLE,
    Command,
    conda_commands,
    judge,
    lay_out,
    mend_scripts,
    passed_on,
    runtime_wheel,
    uv_command,
)
from keelway_workers.failures import WorkFailed
from keelway_workers.images.base import Base
from keelway_workers.images.bytecode import Bytecode
from keelway_workers.images.python import ImagePython
from keelway_workers.images.recipe import ENV, RUNTIME
from keelway_workers.node_dir import NodeDir
from keelway_workers.subtree import Subtree

LARGE_BYTES = 8 * 1024 * 1024  # a package from this size on is a layer of its own
MOST_LAYERS = 40  # engines take 127 in all, of which the base has some
TESTS = {"tests", "test"}
REST, OURS, CONDA = "packages", "runtime", "conda"
GLIBC = "manylinux_2_28"  # what locks are resolved for


@dataclass(frozen=True)
class Work:
    """What every step of an installation needs: where, with which means, and how long it may take."""

    node: NodeDir
    subtree: Subtree
    say: Callable[[str], None]
    seconds_left: Callable[[], float]

    def run(self, command: Command, env: dict[str, str]) -> None:
        """Run a command with its output in the log. WorkFailed when it fails."""
        self.say(f"$ {command}")
        finished = self.subtree.run(command.argv, env=env, on_line=self.say, timeout_s=max(self.seconds_left(), 1.0))
        judge(command, finished)


@dataclass
class Distribution:
    """An installed package: its files, relative to the folder it was installed in, and their size."""

    name: str
    files: list[Path] = field(default_factory=list)
    size_bytes: int = 0


def install(spec: EnvironmentSpec, base: Base, folder: Path, work: Work, bytecode: Bytecode) -> None:
    """Fill `folder` with one sub-folder a layer, named in the order in which they are copied to `/`.

    Private wheels are in the node's cache already.
    """
    with work.node.scratch() as scratch:
        lay_out(spec, scratch, work.node)
        if spec.conda_lock is not None:
            _install_conda(scratch, folder, work)
            return
        if base.python is None:
            raise WorkFailed("base-image-unsuitable", f"{base.name} was not asked for its Python")
        prefix = scratch / "prefix"
        _install_packages(scratch, prefix, base.python, work)
        if base.is_user_managed:
            _lay_beside(prefix, folder, base.python, bytecode)
        else:
            _lay_in_layers(prefix, folder, base.python, bytecode)


def _install_conda(scratch: Path, folder: Path, work: Work) -> None:
    """Conda's packages with their Python, and pip's on top of them, in one layer: they share folders and files."""
    place = _under(folder / f"00-{CONDA}", ENV)
    place.mkdir(parents=True)
    # Compiled here, by conda's own Python; by hash, as files get new times on their way into an image.
    env = _variables(scratch) | {"PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
    for command in conda_commands(place, Path(ENV), work.node.conda_packages, runtime_wheel(), scratch):
        work.run(command, env)
    mend_scripts(place, Path(ENV))


def _install_packages(scratch: Path, prefix: Path, python: ImagePython, work: Work) -> None:
    """Install for the image's Python: uv chooses wheels by its version and platform, and runs none of them."""
    target = ["--python-version", python.minor, "--python-platform", f"{python.machine}-{GLIBC}"]
    into = ["--prefix", str(prefix), "--python", sys.executable, *target, "--no-build", "--no-config"]
    install = ["pip", "install", *QUIET, *into]
    for command in (
        uv_command(*install, "--require-hashes", "-r", str(scratch / LOCK)),
        uv_command(*install, "--no-deps", str(runtime_wheel())),
    ):
        work.run(command, _variables(scratch))
    installed = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if installed != _site(prefix, python).parent:
        installed.rename(_site(prefix, python).parent)


def _lay_beside(prefix: Path, folder: Path, python: ImagePython, bytecode: Bytecode) -> None:
    """The runtime and what it needs in a folder of their own, beside the packages that the image has."""
    site = _site(prefix, python)
    target = _under(folder / f"00-{OURS}", RUNTIME)
    target.parent.mkdir(parents=True)
    bytecode.add({each.name: _sources(each) for each in _distributions(site, site)}, site, RUNTIME, python)
    site.rename(target)


def _lay_in_layers(prefix: Path, folder: Path, python: ImagePython, bytecode: Bytecode) -> None:
    """A virtual environment: large packages in layers of their own, so that one more leaves the others as they are."""
    _make_environment(prefix, python)
    found = _distributions(_site(prefix, python), prefix)
    bytecode.add({each.name: _sources(each) for each in found}, prefix, ENV, python)
    large = sorted((each for each in found if each.size_bytes >= LARGE_BYTES), key=lambda each: -each.size_bytes)
    large = sorted(large[:MOST_LAYERS], key=lambda each: each.name)
    ours = [each for each in found if each.name.startswith("keelway_runtime-")]
    for number, each in enumerate(large):
        # A Dockerfile names it: `$` would be replaced there, whatever stands around it.
        name = re.sub(r"[^A-Za-z0-9._+-]", "_", each.name)
        _move(each, prefix, _under(folder / f"{number:02}-{name}", ENV))
    for each in ours:
        _move(each, prefix, _under(folder / f"{len(large) + 1:02}-{OURS}", ENV))
    rest = _under(folder / f"{len(large):02}-{REST}", ENV)
    rest.parent.mkdir(parents=True)
    prefix.rename(rest)


def _make_environment(prefix: Path, python: ImagePython) -> None:
    """What makes a folder a virtual environment of the image's Python."""
    home = Path(python.home)
    config = f"home = {home.parent}\ninclude-system-site-packages = false\nversion = {python.version}\n"
    (prefix / "pyvenv.cfg").write_text(config, encoding="utf-8")
    (prefix / "bin").mkdir(exist_ok=True)
    _mend_interpreter(prefix / "bin", sys.executable)
    for name in ("python", "python3", f"python{python.minor}"):
        (prefix / "bin" / name).symlink_to(home)


def _mend_interpreter(scripts: Path, interpreter: str) -> None:
    """Have scripts that uv wrote for our interpreter name that of the image's environment."""
    for script in scripts.iterdir():
        head, _, rest = script.read_bytes().partition(b"\n")
        if head == f"#!{interpreter}".encode():
            script.write_bytes(f"#!{ENV}/bin/python\n".encode() + rest)


def _distributions(site: Path, prefix: Path) -> list[Distribution]:
    """What is installed, by what each package has written down of its own files."""
    found = []
    for record in sorted(site.glob("*.dist-info/RECORD")):
        each = Distribution(record.parent.name.removesuffix(".dist-info"))
        with record.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                path = Path(os.path.normpath(site / row[0])) if row else site
                if path.is_relative_to(prefix) and (path.is_file() or path.is_symlink()):
                    each.files.append(path.relative_to(prefix))
                    each.size_bytes += path.lstat().st_size
        found.append(each)
    return found


def _sources(each: Distribution) -> list[Path]:
    """A package's Python files, without its own tests: nothing imports those, and they are up to half of it."""
    return sorted(path for path in each.files if path.suffix == ".py" and not TESTS.intersection(path.parts))


def _move(each: Distribution, prefix: Path, target: Path) -> None:
    """Move a package's files, with their bytecode, to a layer of their own."""
    for path in each.files:
        for source in [path, *_compiled(prefix, path)]:
            if not os.path.lexists(prefix / source):  # another package claims the same file, and was moved before
                continue
            (target / source).parent.mkdir(parents=True, exist_ok=True)
            (prefix / source).rename(target / source)


def _compiled(prefix: Path, source: Path) -> list[Path]:
    if source.suffix != ".py":
        return []
    cache = prefix / source.parent / "__pycache__"
    return [path.relative_to(prefix) for path in cache.glob(f"{source.stem}.*.pyc")] if cache.is_dir() else []


def _site(prefix: Path, python: ImagePython) -> Path:
    return prefix / "lib" / f"python{python.minor}" / "site-packages"


def _under(layer: Path, place: str) -> Path:
    return layer / place.lstrip("/")


def _variables(scratch: Path) -> dict[str, str]:
    return {**passed_on(os.environ), WHEELS_VARIABLE: str(scratch / WHEELS.name)}
