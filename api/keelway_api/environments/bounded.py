"""Programs that resolve environments: a few at once, each with bounded time and memory and none of our secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keelway_api.environments import limits
from keelway_api.errors import DependencyAway, TooBusy

TIMEOUT_S = 180.0
MEMORY_BYTES = 3 * 2**30
AT_ONCE = 2
WAITING_AT_MOST = 30
WAIT_S = 120.0
ENDED_S = 5.0
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "SSL_",
    "UV_",
    "PIP_",
    "XDG_",
    "HTTP_",
    "HTTPS_",
    "NO_PROXY",
    "ALL_PROXY",
)


class Places:
    """So many may resolve at once, and so many more wait for that, so long at most."""

    def __init__(self, at_once: int = AT_ONCE, waiting_at_most: int = WAITING_AT_MOST, wait_s: float = WAIT_S) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._waiting, self._waiting_at_most, self._wait_s = 0, waiting_at_most, wait_s

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A place, until it is left. Raises TooBusy."""
        if self._waiting >= self._waiting_at_most:
            raise TooBusy("As many environments as may wait are waiting to be resolved.")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise TooBusy(f"Other environments were resolved for {self._wait_s:.0f} s.") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


PLACES = Places()


@dataclass(frozen=True)
class Ended:
    """How a program ended and what it said."""

    returncode: int
    out: str
    err: str

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it."""
        return self.returncode < 0

    @property
    def how(self) -> str:
        """Of one that was killed, what people are told."""
        signal = -self.returncode
        return f"was ended by signal {signal}, as is what needs more than {MEMORY_BYTES // 2**20} MiB of memory."


async def run(
    argv: Sequence[str], given: str, *, timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES
) -> Ended:
    """Run a program with `given` on its standard input. Raises DependencyAway when that takes too long."""
    limited = [sys.executable, "-I", "-S", str(Path(limits.__file__)), str(os.getpid()), str(memory_bytes), *argv]
    process = await asyncio.create_subprocess_exec(
        *limited,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
        cwd="/",
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(given.encode())
    except TimeoutError:
        raise DependencyAway("package-index", f"Resolving took longer than {timeout_s:.0f} s.") from None
    finally:
        if process.returncode is None:
            await _end(process)
    return Ended(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it, and wait until it is gone and its pipes are read to their end: else they stay open."""
    process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENDED_S):
            await process.communicate()


def _environment() -> dict[str, str]:
    """The operator's index and proxy settings, and none of our secrets."""
    return {name: value for name, value in os.environ.items() if name.upper().startswith(PASSED_ON)}
