"""One long-running process: started, waited for, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from keelway_standalone.backoff import Backoff
from keelway_standalone.errors import PortTaken, Refused, StartFailed
from keelway_standalone.logs import PORT_TAKEN, reason, size, tail
from keelway_standalone.processes import Process, Processes, described

PROBE_S = 0.05
EXITS_AT_FIRST = 3


def nothing() -> None:
    """No preparation."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, and how to tell that it works.

    `prepare` runs before every start and removes what a killed predecessor left. `is_ready` is called in a thread
    again and again; it must return within a second or two, and False for whatever is expected while starting.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    is_ready: Callable[[], bool]
    prepare: Callable[[], None] = nothing
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 2.5
    start_limit_s: float = 30.0


class Child:
    """Keeps one program running until `stop`. `changed` is called whenever its state is another."""

    def __init__(
        self, program: Program, processes: Processes, *, changed: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.program = program
        self.state = "waiting"
        self.restarts = 0
        self._processes = processes
        self._changed = changed
        self._say = say
        self._process: Process | None = None
        self._created: float | None = None
        self._started = 0.0
        self._log_size = 0
        self._last_exit: str | None = None
        self._last_exit_at: datetime | None = None
        self._next_start_at: datetime | None = None
        self._stopping = asyncio.Event()
        self._first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.program.name

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    async def ready(self) -> None:
        """Wait until it works for the first time. Raises StartFailed when it cannot within its time limit."""
        try:
            await asyncio.wait_for(asyncio.shield(self._first_ready), self.program.start_limit_s)
        except TimeoutError:
            raise self._failure(f"not ready after {self.program.start_limit_s:.0f} s") from None

    async def stop(self) -> None:
        """End it: its own signal first, SIGKILL after its grace. May be called twice, and if it never started."""
        self._stopping.set()
        if self._task is None:
            return
        if self._process is not None:
            self._process.send(self.program.stop_signal)
        done, _ = await asyncio.wait({self._task}, timeout=self.program.stop_grace_s)
        if not done:
            self.kill()
            await self._task

    def kill(self) -> None:
        """End it at once."""
        self._stopping.set()
        if self._process is not None and not self._process.exited.done():
            self._process.kill_group()

    def status(self) -> dict[str, Any]:
        """Its line in status.json."""
        alive = self._process is not None and not self._process.exited.done()
        return {
            "name": self.name,
            "pid": self._process.pid if alive and self._process else None,
            "created": self._created if alive else None,
            "state": self.state,
            "restarts": self.restarts,
            "last_exit": self._last_exit,
            "last_exit_at": _written(self._last_exit_at),
            "next_start_at": _written(self._next_start_at),
        }

    async def _keep_running(self) -> None:
        backoff = Backoff()
        exits = 0
        while not self._stopping.is_set():
            how = await self._run_once()
            exits += not how.startswith("killed")  # who is killed from outside is not at fault
            if self._stopping.is_set():
                break
            if not self._first_ready.done():
                failure = self._failure(how)
                if exits >= EXITS_AT_FIRST or isinstance(failure, PortTaken):
                    self._first_ready.set_exception(failure)
                    break
            await self._pause(how, backoff.after(time.monotonic() - self._started))
        self._move("stopped")

    async def _run_once(self) -> str:
        """Start it and wait for its end: how it ended, in words."""
        self._started, self._log_size = time.monotonic(), size(self.program.log)
        try:
            await asyncio.to_thread(self.program.prepare)
            if self._stopping.is_set():
                return "not started"
            self._process = self._spawn()
        except (OSError, Refused) as error:
            return f"could not be started: {error}"
        self._move("starting")
        watch = asyncio.create_task(self._until_ready())
        code = await self._process.exited
        watch.cancel()
        self._process.kill_group()
        return described(code)

    def _spawn(self) -> Process:
        program = self.program
        if not os.access(program.argv[0], os.X_OK):
            raise FileNotFoundError(f"{program.argv[0]} is missing or cannot be run")
        process = self._processes.spawn(program.argv, env=program.env, cwd=program.cwd, log=program.log)
        self._created = _create_time(process.pid)
        return process

    async def _until_ready(self) -> None:
        while not await asyncio.to_thread(self.program.is_ready):  # noqa: ASYNC110
            await asyncio.sleep(PROBE_S)  # another process has no event to wait for
        again = "" if not self._first_ready.done() else " again"
        self._move("running")
        self._say(f"{self.name} ready{again} ({time.monotonic() - self._started:.1f} s)")
        if not self._first_ready.done():
            self._first_ready.set_result(None)

    async def _pause(self, how: str, wait_s: float) -> None:
        self.restarts += 1
        self._last_exit = how
        self._last_exit_at = datetime.now(UTC)
        self._next_start_at = self._last_exit_at + timedelta(seconds=wait_s)
        self._say(f"{self.name} ended ({how}); starting it again in {wait_s:.1f} s")
        self._move("waiting")
        try:
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        except TimeoutError:
            self._next_start_at = None

    def _move(self, state: str) -> None:
        self.state = state
        self._changed()

    def _failure(self, how: str) -> StartFailed:
        lines = tail(self.program.log, since=self._log_size)
        known = reason(lines)
        failure = PortTaken if known == PORT_TAKEN else StartFailed
        return failure(self.name, f"{known} ({how})" if known else how, lines)


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None


def _create_time(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
