"""Programs that wheels put beside our Python."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from keelway_standalone.errors import Refused


def script(name: str, package: str) -> Path:
    """A program from the folder of this Python's scripts, else from PATH."""
    path = Path(sysconfig.get_path("scripts")) / name
    if os.access(path, os.X_OK):
        return path
    found = shutil.which(name)
    if found is None:
        raise Refused(f"{name} is missing: install the package {package}")
    return Path(found)
