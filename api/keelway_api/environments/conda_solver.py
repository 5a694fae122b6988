"""Locks of conda packages: solved in a program of its own, see solve_conda.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from keelway_api.environments import conda
from keelway_api.environments.bounded import PLACES, TIMEOUT_S, run
from keelway_api.environments.definition import Definition
from keelway_api.environments.resolver import explanation, named
from keelway_api.errors import DependencyAway, EnvironmentInvalid, EnvironmentUnsolvable, PythonNotAvailable

PROGRAM = Path(__file__).with_name("solve_conda.py")
SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


@dataclass(frozen=True)
class CondaLock:
    """The conda part of a lock: records as text, the python among them, and its Python packages as `name==version`."""

    text: str
    python_version: str
    given: tuple[str, ...]


async def lock(wanted: Definition, channels: Mapping[str, str]) -> CondaLock:
    """The records that satisfy an environment's conda packages.

    Raises EnvironmentUnsolvable, EnvironmentInvalid, PythonNotAvailable, DependencyAway, TooBusy.
    """
    request = {
        "channels": channels,
        "subdir": SUBDIRS[wanted.machine],
        "python": str(wanted.python) if wanted.python is not None else None,
        "timeout_s": TIMEOUT_S,
        "specs": [
            {"line": line, "match": spec.match(), "channel": spec.channel}
            for line, spec in zip(wanted.conda_packages, wanted.conda_specs, strict=True)
        ],
    }
    async with PLACES.one():
        ended = await run([sys.executable, "-I", str(PROGRAM)], json.dumps(request))
    if ended.was_killed:
        raise EnvironmentUnsolvable(f"Solving the conda packages {ended.how}")
    assert ended.returncode == 0, ended.err[-2000:]
    return _lock(json.loads(ended.out), wanted)


def _lock(answer: dict[str, Any], wanted: Definition) -> CondaLock:
    if "records" not in answer:
        raise _failure(answer, wanted)
    records = answer["records"]
    python = next(record["version"] for record in records if record["name"] == "python")
    return CondaLock(
        json.dumps({"records": records}, indent=1, sort_keys=True),
        ".".join(python.split(".")[:2]),
        tuple(filter(None, map(_as_pip_has_it, records))),
    )


def _failure(answer: dict[str, Any], wanted: Definition) -> Exception:
    if "pythons" in answer:
        return PythonNotAvailable(str(wanted.python or "3.9 or later"), answer["pythons"], where="No declared channel")
    if "invalid" in answer:
        return EnvironmentInvalid(answer["invalid"], f"not a conda package that can be looked for: {answer['why']}")
    if "no_channel" in answer:
        return EnvironmentInvalid("channels", answer["no_channel"])
    if "away" in answer:
        return DependencyAway("conda-channel", "A conda channel does not answer.")
    why = explanation(answer["unsolvable"])
    lines = named(
        why, [(line, spec.spelled) for line, spec in zip(wanted.conda_packages, wanted.conda_specs, strict=True)]
    )
    return EnvironmentUnsolvable(why + _instead(lines), lines=lines, conda_packages=list(wanted.conda_packages))


def _instead(lines: list[str]) -> str:
    specs = [spec for line in lines if (spec := conda.parse(line))]
    written = ", ".join(repr(conda.as_pip(spec)) for spec in specs[:3])
    return f" If PyPI has it, write {written} under 'pip:'." if written else ""


def _as_pip_has_it(record: dict[str, Any]) -> str | None:
    """`name==version` for a record that is a Python package, under conda's own name for it."""
    needs_python = any(line.split(" ")[0] == "python" for line in record["depends"])
    if not needs_python and record.get("noarch") != "python":
        return None
    try:
        return f"{canonicalize_name(record['name'])}=={Version(record['version'])}"
    except InvalidVersion:
        return None
