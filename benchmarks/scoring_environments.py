"""A virtual environment for each peer, made once and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALL_S = 600
CODE = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class NotInstalled(RuntimeError):  # noqa: N818
    """A peer cannot be had; the message says why."""


def install(folder: Path, requirements: Sequence[str], common: Sequence[str]) -> None:
    """An environment with these packages, their bytecode compiled. Raises NotInstalled.

    With the common ones in other versions where the peer's own requirements exclude these. A requirement that is a
    path is installed again each time.
    """
    wanted = json.dumps([sys.version, *requirements, *common])
    marker = folder / "wanted.json"
    if not marker.exists() or marker.read_text() != wanted:
        _run("venv", "--clear", "--python", sys.executable, str(folder))
        try:
            _pip(folder, *requirements, *common)
        except NotInstalled:
            _pip(folder, *requirements, *(requirement.partition("==")[0] for requirement in common))
        marker.write_text(wanted)
    for path in requirements:
        if Path(path).is_absolute():
            _pip(folder, "--reinstall-package", "keelway-runtime", path)


def versions(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages by name."""
    return json.loads(subprocess.check_output([folder / "bin" / "python", "-c", CODE, *names], text=True))


def _pip(folder: Path, *arguments: str) -> None:
    _run("pip", "install", "--compile-bytecode", "--python", str(folder / "bin" / "python"), *arguments)


def _run(*arguments: str) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise NotInstalled("uv is not here")
    try:
        done = subprocess.run([uv, "-q", *arguments], check=False, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"uv {arguments[0]} did not end in {INSTALL_S} s") from None
    if done.returncode:
        raise NotInstalled(" ".join(done.stderr.split())[-500:])
