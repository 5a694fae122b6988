"""Commands that somebody's work runs, and everything those start: streamed, timed, and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keelway_workers import launch, procs
from keelway_workers.failures import WorkStopped

MARK = "KEELWAY_SUBTREE"
TAIL_LINES = 100
MAX_LINE = 8192


@dataclass
class Finished:
    """How a command ended and the last of what it printed. `timed_out` when it took too long and was killed."""

    returncode: int
    tail: list[str] = field(default_factory=list)
    timed_out: bool = False


class Subtree:
    """Runs commands one after another; `kill`, from any thread, ends the running one and refuses the next."""

    def __init__(self) -> None:
        self.mark = f"{os.getpid()}/{procs.birth(os.getpid())}/{uuid.uuid4().hex}"
        self._killed = threading.Event()
        self._running = threading.Lock()

    def check(self) -> None:
        """WorkStopped when the subtree was killed."""
        if self._killed.is_set():
            raise WorkStopped

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        on_line: Callable[[str], None],
        timeout_s: float,
        passed: socket.socket | None = None,
    ) -> Finished:
        """Run a command to its end. WorkStopped when the subtree was killed before or meanwhile.

        The command inherits the socket `passed`, which is closed here.
        """
        with self._running:
            self.check()
            process = _start(argv, {**env, MARK: self.mark}, passed)
            if passed is not None:
                passed.close()  # so that the other end hears when the command is gone
            try:
                return self._follow(process, on_line, timeout_s)
            finally:
                self._end(process)

    def kill(self) -> None:
        """SIGKILL everything that was started here, also what left its process group."""
        self._killed.set()
        procs.kill_marked({MARK: self.mark})

    def _follow(self, process: subprocess.Popen[str], on_line: Callable[[str], None], timeout_s: float) -> Finished:
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        reader = threading.Thread(target=_read, args=(process, tail, on_line), daemon=True)
        reader.start()
        timed_out = self._wait(process, timeout_s)
        # A process left behind may hold the pipe open for ever.
        self._end(process)
        reader.join(timeout=5)
        self.check()
        return Finished(process.returncode, list(tail), timed_out)

    def _wait(self, process: subprocess.Popen[str], timeout_s: float) -> bool:
        ends_at = time.monotonic() + timeout_s
        while time.monotonic() < ends_at:
            if self._killed.is_set():
                return False
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            return False
        return True

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            procs.send_group(process.pid, signal.SIGKILL)
        procs.kill_marked({MARK: self.mark})
        process.wait()


def _start(argv: Sequence[str], env: Mapping[str, str], passed: socket.socket | None) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-I", "-S", str(Path(launch.__file__)), str(os.getpid())]
    return subprocess.Popen(
        [*launcher, *argv],
        env=dict(env),
        cwd="/",  # so that no project file around the node directory is taken for the command's own settings
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        pass_fds=[passed.fileno()] if passed else [],
    )


def _read(process: subprocess.Popen[str], tail: deque[str], on_line: Callable[[str], None]) -> None:
    if process.stdout is None:
        return
    with process.stdout:
        while line := process.stdout.readline(MAX_LINE):
            tail.append(line.rstrip("\n"))
            on_line(line.rstrip("\n"))


def end_abandoned() -> int:
    """Kill what a killed worker's commands left behind: their owner no longer lives. Returns how many."""
    abandoned = {variables[MARK] for variables in procs.marked(MARK).values() if not _owner_lives(variables[MARK])}
    return sum(procs.kill_marked({MARK: mark}) for mark in abandoned)


def _owner_lives(mark: str) -> bool:
    pid, _, rest = mark.partition("/")
    return pid.isdigit() and procs.is_alive(int(pid), rest.rpartition("/")[0])
