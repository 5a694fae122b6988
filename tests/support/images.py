"""Images in this machine's engine, for tests that build them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[2] / "deploy" / "base-image.sh"
# Another script makes another one: an engine may outlive many of them.
BASE = f"keelway-base:tests-{hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:12]}"


def docker(*words: str, check: bool = True, timeout_s: float = 120, stdin: str | None = None) -> str:
    """What a docker command prints."""
    ended = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout_s, input=stdin)
    assert not check or ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def inspect(image: str) -> dict[str, Any]:
    """What the engine knows of an image."""
    return json.loads(docker("image", "inspect", image))[0]


def ensure_base() -> str:
    """A base image of Debian's packages, made once per engine, by whichever test comes first."""
    with Path(tempfile.gettempdir(), "keelway-base-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, timeout=30)
        if found.returncode != 0:
            made = subprocess.run([SCRIPT, BASE], capture_output=True, text=True, timeout=400)
            assert made.returncode == 0, made.stderr
            assert made.stdout.startswith(f"{BASE} ")
    return BASE


def forget(environment: str) -> None:
    """Have the engine forget the images of an environment that earlier tests built."""
    found = docker("image", "ls", "--quiet", "--filter", f"label=org.keelway.environment={environment}").split()
    if found:
        docker("image", "rm", "--force", *found)


def built(user: Any, environment: str, timeout_s: float = 240) -> tuple[Any, list[str], str]:
    """How a build of an image ended: the operation, its steps, its log."""
    operation = user.client.environments.build(environment, target="docker")
    ended = user.client.operations.wait(operation.id, timeout_s)
    log = "".join(user.client.operations.logs(ended.id))
    return ended, [step.name for step in ended.steps], log
