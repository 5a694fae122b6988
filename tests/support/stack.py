"""A real stack in a process of its own, whose parts can be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from keelway_standalone.addresses import load
from keelway_standalone.background import BackgroundStack
from keelway_standalone.postgres import Postgres
from keelway_standalone.redis import Redis
from keelway_standalone.s3 import S3
from keelway_standalone.secrets import Secrets
from keelway_standalone.strays import everything

# Each worker and supervisor that starts asks every interpreter of the machine what it is: here one is enough.
ONE_PYTHON = {"KEELWAY_PYTHONS": getattr(sys, "_base_executable", sys.executable)}


class Stack(BackgroundStack):
    """`python -m keelway_standalone up` with any free ports. Needs a short-lived folder of its own."""

    def __init__(self, folder: Path, *, services_only: bool = False, env: Mapping[str, str] = {}) -> None:
        more = ("--services-only",) if services_only else ()
        super().__init__(folder / "data", output=folder / "up.log", more=more, env={**ONE_PYTHON, **env})

    @property
    def secrets(self) -> Secrets:
        return Secrets(self.layout.secrets)

    @property
    def postgres(self) -> Postgres:
        return Postgres(self.layout, load(self.layout.addresses), self.secrets)

    @property
    def redis(self) -> Redis:
        return Redis(self.layout, load(self.layout.addresses), self.secrets)

    @property
    def s3(self) -> S3:
        return S3(self.layout, load(self.layout.addresses), self.secrets)

    def child(self, name: str) -> dict:
        """A child's line in status.json."""
        return next(child for child in self.status["children"] if child["name"] == name)

    def pid_of(self, name: str) -> int | None:
        """A child's pid, None while it does not run."""
        return self.child(name)["pid"]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a child; the pid that got it."""
        pid = self.pid_of(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, number)
        return pid

    def kill_everything(self) -> None:
        """What a power cut does to processes: `up` and all children at once, none of them asked."""
        processes = [psutil.Process(self.pid), *everything(self.layout)]
        for process in processes:
            process.kill()
        assert self._up is not None
        self._up.wait()
        until(lambda: not everything(self.layout), "no process is left")

    def restart(self) -> None:
        """Stop in order and start again."""
        self.stop()
        self.start()

    def processes(self) -> list[psutil.Process]:
        """All processes of this stack but `up` itself, replicas included."""
        return everything(self.layout)

    def wait_restarted(self, name: str, old_pid: int, wait_s: float = 30.0) -> None:
        """Wait until a child that was killed works again under another pid."""
        until(
            lambda: self.child(name)["state"] == "running" and self.pid_of(name) not in {None, old_pid},
            f"{name} works again",
            wait_s,
        )


def until(holds: Callable[[], object], what: str, wait_s: float = 15.0) -> None:
    """Wait until something holds; AssertionError naming it when it does not."""
    ends_at = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < ends_at, f"not within {wait_s} s: {what}"
        time.sleep(0.05)
