"""The container engine of this machine, for tests that need one."""

from __future__ import annotations

import shutil
import subprocess


def engine_missing() -> str | None:
    """Why nothing can run in a container here, or None when it can."""
    if shutil.which("docker") is None:
        return "no docker command on this machine"
    if subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode != 0:
        return "no container engine answers"
    return None
