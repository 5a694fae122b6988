"""The Python interpreters of this node."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.version import InvalidVersion, Version

from keelway_workers.failures import WorkFailed

OLDEST = Version("3.9")  # what the runtime runs on
ASK = (
    "import sys, sysconfig, platform;"
    "print(platform.python_implementation(), platform.python_version(),"
    " sysconfig.get_platform() + '-' + '-'.join(platform.libc_ver()),"
    " getattr(sys, '_base_executable', sys.executable), sep='\\n')"
)


_asking = threading.Lock()


@dataclass(frozen=True)
class Interpreter:
    """A Python that environments can be made from: its full version, its platform, its path outside any venv."""

    version: str
    platform: str
    path: str

    def serves(self, wanted: str) -> bool:
        """Whether this is the wanted version, given as major.minor or in full."""
        return self.version == wanted or self.version.startswith(f"{wanted}.")


def find_pythons(setting: str = "") -> list[Interpreter]:
    """The interpreters of this node, our own first, then the newest; `setting` (paths, ':' between) names them all."""
    with _asking:  # all threads of a start want to know at once: each would ask every interpreter
        return list(_find(setting))


@cache
def _find(setting: str) -> tuple[Interpreter, ...]:
    paths = [Path(path) for path in setting.split(":") if path] if setting else _candidates()
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(_ask, paths))
    found = {answer.path: answer for answer in answers if answer is not None}
    own = [each for each in found.values() if each.version == _own_version()][:1] if not setting else []
    others = sorted((each for each in found.values() if each not in own), key=_by_version, reverse=True)
    return (*own, *others)


def choose_python(wanted: str, pythons: Sequence[Interpreter]) -> Interpreter:
    """The first interpreter of the wanted version; WorkFailed names those that this node has."""
    for interpreter in pythons:
        if interpreter.serves(wanted):
            return interpreter
    available = sorted({each.version for each in pythons}, key=Version)
    raise WorkFailed(
        "python-not-available",
        f"this node has no Python {wanted}; it has {', '.join(available) or 'none'}",
        details={"wanted": wanted, "available": available},
    )


def _own_version() -> str:
    return ".".join(str(part) for part in sys.version_info[:3])


def _by_version(interpreter: Interpreter) -> Version:
    return Version(interpreter.version)


def _candidates() -> list[Path]:
    own = Path(getattr(sys, "_base_executable", None) or sys.executable)
    names = [f"python3.{minor}" for minor in range(9, 30)]
    on_path = [Path(folder) / name for folder in os.get_exec_path() for name in names]
    pyenv = (Path.home() / ".pyenv" / "versions").glob("*/bin/python")
    return list(dict.fromkeys(path for path in (own, *on_path, *sorted(pyenv)) if path.is_file()))


def _ask(path: Path) -> Interpreter | None:
    """What an interpreter says about itself; None when it does not run, is too old or not CPython."""
    try:
        answer = subprocess.run(
            [str(path), "-I", "-S", "-c", ASK], capture_output=True, text=True, timeout=20, check=True, cwd="/"
        )
        implementation, version, platform, executable = answer.stdout.splitlines()
        if implementation != "CPython" or Version(version) < OLDEST:
            return None
    except (OSError, subprocess.SubprocessError, ValueError, InvalidVersion):
        return None
    return Interpreter(version, platform, executable)
