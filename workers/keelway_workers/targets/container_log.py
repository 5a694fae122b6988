"""A container's output, written to the log of its replica as that of a process is, without loss over restarts."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime
from pathlib import Path

from keelway_workers.containers import AWAY, Containers
from keelway_workers.node_dir import write_atomically
from keelway_workers.replica_log import log_file

CURSOR = "log.cursor"  # the time of the last piece that was written
AGAIN_S = 1.0
NOTE_EVERY_S = 0.5  # what came in between is written twice when the supervisor is killed
LAST_WORDS_S = 5.0


class ContainerLog:
    """Follows one container in a thread of its own until it ends, from where an earlier supervisor had come."""

    def __init__(self, containers: Containers, container: str, folder: Path) -> None:
        self.container = container
        self._containers = containers
        self._folder = folder
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log {container[:12]}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Write what is left of a container that has ended, and stop."""
        self._ending.set()
        self._thread.join(LAST_WORDS_S)

    def leave(self) -> None:
        """Do not try again when the engine goes away."""
        self._ending.set()

    def _run(self) -> None:
        while True:
            try:
                self._follow()
                return  # it has ended
            except AWAY:
                if self._ending.wait(AGAIN_S):
                    return

    def _follow(self) -> None:
        last, noted_at = self._read_cursor(), 0.0
        with log_file(self._folder) as log:
            try:
                for piece in self._containers.logs(self.container, _seconds(last)):
                    at, _, text = piece.partition(b" ")
                    if at.decode() <= last:  # asked for once more: see `_seconds`
                        continue
                    last = at.decode()
                    os.write(log, text)
                    if time.monotonic() - noted_at > NOTE_EVERY_S:
                        self._write_cursor(last)
                        noted_at = time.monotonic()
            finally:
                self._write_cursor(last)

    def _read_cursor(self) -> str:
        try:
            container, _, last = (self._folder / CURSOR).read_text().partition(" ")
        except OSError:
            return ""
        return last if container == self.container else ""

    def _write_cursor(self, last: str) -> None:
        write_atomically(self._folder / CURSOR, f"{self.container} {last}")


def _seconds(at: str) -> float:
    """A time of the engine in seconds since 1970, a microsecond early as floats are not exact, 0 for none."""
    if not at:
        return 0.0
    whole, _, fraction = at.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}") - 1e-6
