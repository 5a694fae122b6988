"""Locks: uv resolves requirements for a python version and a platform to exact packages with hashes.

Only wheels are looked at: building a source distribution runs its code, which has no place beside the database's keys.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

import uv
from packaging.requirements import Requirement

from keelway_api.environments.bounded import PLACES, Ended, run
from keelway_api.errors import DependencyAway, EnvironmentUnsolvable

NO_WHEEL = re.compile(r"no usable wheels|Wheels are required for|no wheels with a matching")
MAKE_A_WHEEL = (
    "A package without a wheel would have to be built, which may need a compiler: none runs here. "
    "Make a wheel of it where it can be built (pip wheel NAME), and register that with the environment (--wheel)."
)
AWAY = re.compile(r"error sending request|dns error|connection refused|timed out|Failed to fetch", re.IGNORECASE)
# What nodes are taken to have, whatever the API's own host has: the same request gives the same lock everywhere.
GLIBC = "manylinux_2_28"
WHEELS = "${KEELWAY_WHEELS}"  # where a node puts private wheels; uv reads it from its environment


@dataclass(frozen=True)
class Wanted:
    """What a lock is for. `given` are conda's Python packages as `name==version`: taken as they are, and not locked."""

    requirements: tuple[str, ...]
    python_version: str
    machine: str
    wheels: tuple[Path, ...] = ()
    given: tuple[str, ...] = ()


def runtime_requirements() -> list[str]:
    """What the scoring runtime itself needs: part of every lock."""
    found = [Requirement(line) for line in requires("keelway-runtime") or []]
    return [str(one) for one in found if one.marker is None or "extra" not in str(one.marker)]


async def lock(wanted: Wanted) -> str:
    """requirements.txt lines with hashes for what is wanted and the runtime.

    Raises EnvironmentUnsolvable with uv's explanation, DependencyAway when the package index does not answer, TooBusy.
    """
    wheels = [f"{_name(wheel)} @ {wheel.as_uri()}" for wheel in wanted.wheels]
    lines = "\n".join([*wanted.requirements, *wheels, *runtime_requirements()])
    async with PLACES.one():
        with tempfile.TemporaryDirectory(prefix="keelway-lock-") as folder:
            ended = await run(_command(wanted, Path(folder)), lines)
    if ended.returncode == 0:
        return _neutral(ended.out, wanted.wheels)
    raise _failure(ended, wanted)


def _command(wanted: Wanted, folder: Path) -> list[str]:
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(wanted.given), encoding="utf-8")
    not_ours = [f"--no-emit-package={line.partition('==')[0]}" for line in wanted.given]
    return [
        uv.find_uv_bin(), "pip", "compile", "-", "--python", sys.executable, "--python-version", wanted.python_version,
        "--python-platform", f"{wanted.machine}-{GLIBC}", "--constraint", str(constraints), *not_ours,
        "--generate-hashes", "--no-header", "--no-annotate", "--no-build", "--quiet", "--no-config",
    ]  # fmt: skip


def _name(wheel: Path) -> str:
    return wheel.name.partition("-")[0]


def _neutral(lock: str, wheels: Sequence[Path]) -> str:
    """The lock without the folder where wheels happened to lie here."""
    return lock.replace(wheels[0].parent.as_uri(), f"file://{WHEELS}") if wheels else lock


def _failure(ended: Ended, wanted: Wanted) -> Exception:
    if ended.was_killed:
        return EnvironmentUnsolvable(f"Resolving {ended.how}", requirements=list(wanted.requirements))
    if AWAY.search(ended.err) and "No solution found" not in ended.err:
        return DependencyAway("package-index", "The package index does not answer.")
    why = explanation(ended.err)
    to_build = f" {MAKE_A_WHEEL}" if NO_WHEEL.search(why) else ""
    return EnvironmentUnsolvable(
        why + to_build,
        lines=named(why, {line: Requirement(line).name for line in wanted.requirements}.items()),
        requirements=list(wanted.requirements),
        python_version=wanted.python_version,
    )


def named(why: str, lines: Iterable[tuple[str, str]]) -> list[str]:
    """Which lines an explanation speaks of, by the name of the package that each asks for."""
    found = [line for line, name in lines if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", why, re.IGNORECASE)]
    return found[:20]


def explanation(words: str) -> str:
    """A solver's words as one paragraph, without its drawing."""
    plain = re.sub(r"[╰└─▶×│┬├]+", " ", words)
    return re.sub(r"\s+", " ", plain).strip()[:4000] or "The resolver gave no reason."
