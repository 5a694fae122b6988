"""Starting processes so that none outlives us unnoticed, and learning how each of them ended."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from keelway_standalone.logs import open_log

PR_SET_CHILD_SUBREAPER = 36

# Runs between fork and the program. A `preexec_fn` would do the same, but is unsafe beside threads, which the
# readiness probes need. Python ignores SIGPIPE, and a shell's `&` ignores SIGINT: neither may be inherited.
_SHIM = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
for name in ("SIGINT", "SIGQUIT", "SIGPIPE", "SIGXFSZ"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
os.umask(0o077)
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True)
class Process:
    """A process that was started; `exited` gives its exit code, negative for a signal."""

    pid: int
    popen: subprocess.Popen[bytes]
    exited: asyncio.Future[int]

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended: its pid may be another's by now."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """SIGKILL whatever is left of its process group, e.g. the pool of a worker that was killed."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def bound_to_us(argv: Sequence[str], *, by: signal.Signals = signal.SIGKILL) -> list[str]:
    """A command that gets a signal from the kernel when the thread that starts it ends."""
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), str(int(by)), *argv]


class Processes:
    """All our children. Used from the main thread only: the kernel ends a child when the *thread* that made it ends.

    We are a subreaper: orphans of our children fall to us and are reaped at once, so that nobody takes the pid of
    a zombie for a living process (a supervisor that adopted a replica; Postgres with its postmaster.pid).
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, Process] = {}
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, stdin: IO[bytes] | None = None
    ) -> Process:
        """Start a process in its own session, writing to a log. It dies by SIGKILL when we do."""
        output = open_log(log)
        try:
            popen = subprocess.Popen(
                bound_to_us(argv),
                stdin=stdin or subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
            )
        finally:
            os.close(output)
        process = Process(popen.pid, popen, self._loop.create_future())
        self._running[popen.pid] = process
        return process

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        stdin: IO[bytes] | None = None,
        limit_s: float = 60,
    ) -> int:
        """Run a command to its end and give its exit code; one that takes longer than `limit_s` is killed."""
        process = self.spawn(argv, env=env, cwd=cwd, log=log, stdin=stdin)
        try:
            return await asyncio.wait_for(asyncio.shield(process.exited), limit_s)
        except TimeoutError:
            process.kill_group()
            return await process.exited
        except asyncio.CancelledError:
            process.kill_group()
            raise

    def kill_all(self) -> None:
        """SIGKILL every child and its group."""
        for process in list(self._running.values()):
            process.kill_group()

    def close(self) -> None:
        """Take no more orphans, and let others wait for children again."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if process := self._running.pop(pid, None):
                process.popen.returncode = os.waitstatus_to_exitcode(status)
                process.exited.set_result(process.popen.returncode)


def described(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
