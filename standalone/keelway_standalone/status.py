"""status.json: what runs, for `/statusz`, `keelway doctor` and the next `up`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keelway_standalone.addresses import Addresses
from keelway_standalone.child import Child
from keelway_standalone.files import write_whole


class Status:
    """Writes the file anew whenever something changed."""

    def __init__(self, path: Path, addresses: Addresses) -> None:
        self._path = path
        self._addresses = addresses
        self.state = "starting"

    def write(self, children: Iterable[Child]) -> None:
        """A full disk must not end `up`: then the file stays as it was."""
        document = {
            "pid": os.getpid(),
            "state": self.state,
            "url": self._addresses.url,
            "gateway_url": self._addresses.gateway_url,
            "children": [child.status() for child in children],
        }
        try:
            write_whole(self._path, json.dumps(document, indent=2))
        except OSError as error:
            os.write(2, f"status.json could not be written: {error}\n".encode())


def read(path: Path) -> dict[str, Any]:
    """The file, or an empty document."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
