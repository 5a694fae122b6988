"""The stack that is measured: the one `keelway up` starts, in a folder of its own."""

from __future__ import annotations

import time
from pathlib import Path

from keelway import Client
from keelway_standalone.background import BackgroundStack


class World:
    """A stack that can be started and stopped again, with a client for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = BackgroundStack(folder / "data", output=folder / "up.log")

    def start(self) -> float:
        """Start it; seconds from the command to its being ready."""
        started = time.perf_counter()
        self.stack.start()
        return time.perf_counter() - started

    def stop(self) -> float:
        """Stop it in order; seconds it took."""
        started = time.perf_counter()
        self.stack.stop()
        return time.perf_counter() - started

    def client(self) -> Client:
        """A client with the admin's token."""
        return Client(self.stack.url, self.stack.admin_token)
