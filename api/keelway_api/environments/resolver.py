"""Locks: uv resolves requirements for a python version to exact packages with hashes.

Only wheels are looked at: building a source distribution runs its code, which has no place beside the database's keys.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from importlib.metadata import requires

import uv
from packaging.requirements import Requirement

from keelway_api.errors import DependencyAway, EnvironmentUnsolvable

TIMEOUT_S = 180.0
AT_ONCE = asyncio.Semaphore(2)
AWAY = re.compile(r"error sending request|dns error|connection refused|timed out|Failed to fetch", re.IGNORECASE)
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "SSL_",
    "UV_",
    "PIP_",
    "XDG_",
    "HTTP_",
    "HTTPS_",
    "NO_PROXY",
    "ALL_PROXY",
)


def runtime_requirements() -> list[str]:
    """What the scoring runtime itself needs: part of every lock."""
    found = [Requirement(line) for line in requires("keelway-runtime") or []]
    return [str(one) for one in found if one.marker is None or "extra" not in str(one.marker)]


async def lock(requirements: tuple[str, ...], python_version: str) -> str:
    """requirements.txt lines with hashes for `requirements` and the runtime.

    Raises EnvironmentUnsolvable with uv's explanation, DependencyAway when the package index does not answer.
    """
    lines = "\n".join([*requirements, *runtime_requirements()])
    async with AT_ONCE:
        code, out, err = await _compile(lines, python_version)
    if code == 0:
        return out
    if AWAY.search(err) and "No solution found" not in err:
        raise DependencyAway("package-index", "The package index does not answer.")
    raise EnvironmentUnsolvable(_explanation(err), requirements=list(requirements), python_version=python_version)


async def _compile(lines: str, python_version: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        uv.find_uv_bin(), "pip", "compile", "-", "--python", sys.executable, "--python-version", python_version,
        "--generate-hashes", "--no-header", "--no-annotate", "--no-build", "--quiet", "--no-config",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=_environment(), cwd="/",
    )  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate(lines.encode())
    except TimeoutError as error:
        raise DependencyAway("package-index", f"Resolving took longer than {TIMEOUT_S:.0f} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, out.decode(), err.decode()


def _environment() -> dict[str, str]:
    """The operator's index and proxy settings, and none of our secrets."""
    return {name: value for name, value in os.environ.items() if name.upper().startswith(PASSED_ON)}


def _explanation(stderr: str) -> str:
    """uv's words as one paragraph, without its drawing."""
    words = re.sub(r"[╰─▶×│┬├]+", " ", stderr)
    return re.sub(r"\s+", " ", words).strip()[:4000] or "uv gave no reason."
