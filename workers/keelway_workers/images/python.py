"""The Python of an image: what it says about itself, and whether packages that were locked for one run on it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from keelway_workers.failures import WorkFailed

OLDEST_GLIBC = (2, 28)  # what locks are resolved for
OLDEST_PYTHON = (3, 9)  # what the runtime runs on
ASK = """\
import json, platform, sys, importlib.util
print(json.dumps({
    "version": platform.python_version(),
    "implementation": platform.python_implementation(),
    "executable": sys.executable,
    "home": getattr(sys, "_base_executable", sys.executable),
    "machine": platform.machine(),
    "libc": "-".join(platform.libc_ver()),
    "bytecode": sys.implementation.cache_tag + "-" + importlib.util.MAGIC_NUMBER.hex(),
}))
"""


@dataclass(frozen=True)
class ImagePython:
    """A Python in an image. `home` is the interpreter outside any virtual environment; `bytecode` what it reads."""

    version: str
    implementation: str
    executable: str
    home: str
    machine: str
    libc: str
    bytecode: str

    @property
    def minor(self) -> str:
        """major.minor."""
        return ".".join(self.version.split(".")[:2])

    def serves(self, wanted: str) -> bool:
        """Whether it is CPython of this version, given as major, major.minor or in full; an empty one is any."""
        fits = not wanted or self.version == wanted or self.version.startswith(f"{wanted}.")
        return self.implementation == "CPython" and fits


def heard(output: str) -> ImagePython | None:
    """What a Python answered to ASK; None when it said something else."""
    for line in output.splitlines():
        try:
            return ImagePython(**json.loads(line))
        except (ValueError, TypeError):
            continue
    return None


def require(image: str, found: ImagePython | None, wanted: str) -> ImagePython:
    """The Python itself when it is the one that packages were locked for, on a C library that wheels run on.

    Raises WorkFailed `base-image-unsuitable`.
    """
    if found is None or not found.serves(wanted):
        has = f"{found.implementation} {found.version}" if found else "none"
        available = [found.version] if found else []
        raise _unsuitable(image, f"does not have Python {wanted or '3'}; it has {has}", wanted, available)
    if tuple(map(int, found.version.split(".")[:2])) < OLDEST_PYTHON:
        raise _unsuitable(image, f"has Python {found.version}; the runtime needs 3.9", wanted, [found.version])
    libc = re.fullmatch(r"glibc-(\d+)\.(\d+).*", found.libc)
    if libc is None or (int(libc[1]), int(libc[2])) < OLDEST_GLIBC:
        has = found.libc.strip("-") or "another C library, as Alpine does"
        raise _unsuitable(image, f"has {has}; packages need glibc 2.28 or later", wanted, [found.version])
    return found


def _unsuitable(image: str, why: str, wanted: str, available: list[str]) -> WorkFailed:
    return WorkFailed(
        "base-image-unsuitable",
        f"the base image {image} {why}",
        details={"base_image": image, "wanted": wanted, "available": available},
    )
