"""Keelway's scoring runtime beside its peers: the same model, bodies and core, in turn within each round.

Every server is pinned to one core, wrk to another. All are started once and idle while another is measured. Each must
answer rightly before, between and after its windows. Ours runs with keys, metrics and request ids.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks import scoring_bodies, scoring_wrk
from benchmarks.scoring_environments import NotInstalled, install, versions
from benchmarks.scoring_report import Cell, Results, Started, of_connections, print_report
from benchmarks.scoring_running import Broken, Running
from benchmarks.scoring_servers import COMMON, PACKAGES, REQUIREMENTS, SERVERS, Server

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keelway-bench"
BODIES, CONNECTIONS = ("small", "rows", "raw"), (1, 8, 64)
IDLE_S, BUSY_SHARE, SETTLE_S = 1.0, 0.05, 30


class Field:
    """The servers that take part, and what came of it so far."""

    def __init__(self, folder: Path, cache: Path, *, seconds: int) -> None:
        self.folder, self.cache, self.seconds = folder, cache, seconds
        self.server_core, self.client_core = _cores()
        self.results = Results()
        self.running: list[Running] = []
        self._bodies = folder / "bodies"
        self._bodies.mkdir()
        self._expected = scoring_bodies.write(self._bodies)

    def lay_out(self, servers: list[Server]) -> None:
        """Install what they need and write their files."""
        for environment in dict.fromkeys(server.environment for server in servers):
            _say(f"installing {environment}")
            try:
                install(self.cache / environment, REQUIREMENTS[environment], COMMON)
            except NotInstalled as error:
                self.results.left_out[environment] = f"not installed: {error}"
                continue
            found = versions(self.cache / environment, PACKAGES[environment])
            self.results.versions[environment] = ", ".join(f"{name} {number}" for name, number in found.items())
        self.running = [
            Running(server, self.cache / server.environment, self._bodies, self.folder, self._expected)
            for server in servers
            if server.environment not in self.results.left_out
        ]

    def time_starts(self, count: int) -> None:
        """Starts of each server alone, after one that fills the caches; memory after some load."""
        for running in [running for running in self.running if "small" in running.server.routes]:
            name = running.server.name
            _say(f"starting {name}")
            self._guarded(running, self._time_starts, running, count)
            running.stop()
            if name in self.results.starts:
                _say(f"    {statistics.median(self.results.starts[name].times_s):.2f} s")

    def _time_starts(self, running: Running, count: int) -> None:
        times_s, cpu_s = [], []
        for _ in range(count + 1):
            running.stop()
            times_s.append(running.start(self.server_core))
            cpu_s.append(running.cpu_s)
        for body in ("small", "rows"):
            self._load(running, Cell(body, 8), 1)
        self.results.starts[running.server.name] = Started(
            times_s[1:], statistics.median(cpu_s[1:]), *running.memory_mib
        )

    def start(self) -> None:
        """All of them, to stay; waits until they have nothing left to do."""
        for running in self.running:
            self._guarded(running, running.start, self.server_core)
        ends_at = time.monotonic() + SETTLE_S
        while (share := self._idle_share()) > BUSY_SHARE and time.monotonic() < ends_at:
            pass
        self.results.idle_share = share
        for running in self.running:
            for body in running.server.routes:
                self._guarded(running, running.check, body)
            self._guarded(running, self._note_open_doors, running)

    def measure(self, cells: list[Cell], windows: int) -> None:
        """Each cell: so many rounds, in each one window of each server."""
        began, all_s, own_s = time.monotonic(), _busy_s(), self._own_s()
        self._warm_up(cells)
        self._rounds(cells, windows)
        others_s = (_busy_s() - all_s) - (self._own_s() - own_s)
        self.results.others_share = others_s / (time.monotonic() - began)
        for running in self.running:
            self._guarded(running, self._note_batches, running)

    def _warm_up(self, cells: list[Cell]) -> None:
        for running in self.running:
            for body in {cell.body for cell in cells} & set(running.server.routes):
                self._guarded(running, self._load, running, Cell(body, 8), 1)

    def _rounds(self, cells: list[Cell], windows: int) -> None:
        for cell in cells:
            taking = [running for running in self.running if cell.body in running.server.routes]
            for number in range(windows):
                _say(f"{cell.body}, {of_connections(cell)}, round {number + 1} of {windows}")
                # Each round begins with another server: none is always the first or after the same one.
                first = number % max(len(taking), 1)
                for running in taking[first:] + taking[:first]:
                    self._guarded(running, self._window, running, cell)

    def stop(self) -> None:
        """All of them."""
        for running in self.running:
            running.stop()

    def _window(self, running: Running, cell: Cell) -> None:
        window = self._load(running, cell, self.seconds)
        self.results.windows.setdefault((running.server.name, cell), []).append(window)
        running.check(cell.body)  # waits, too, until what wrk left in its queue is done
        running.forget_log()

    def _load(self, running: Running, cell: Cell, seconds: int) -> scoring_wrk.Window:
        core, folder = self.client_core, self.folder
        return scoring_wrk.load(
            running, cell.body, connections=cell.connections, seconds=seconds, core=core, folder=folder
        )

    def _guarded(self, running: Running, work: Callable[..., object], *arguments: object) -> None:
        """Do it, unless the server broke before; leave it out from here on if it breaks now."""
        name = running.server.name
        if name in self.results.left_out:
            return
        try:
            work(*arguments)
        except (Broken, subprocess.SubprocessError) as error:
            self.results.left_out[name] = str(error)
            running.stop()
            _say(f"{name}: {error}")

    def _note_batches(self, running: Running) -> None:
        """How many requests it scored at once, to show that it did."""
        if "KEELWAY_BATCH_SIZE" in running.server.env:
            found = dict(re.findall(r"^keelway_batch_size_(sum|count) (\S+)", running.metrics(), re.M))
            mean = float(found["sum"]) / float(found["count"]) if found else 1
            self.results.notes.append(f"{running.server.name} scored {mean:.1f} requests at once, over all its cells.")

    def _own_s(self) -> float:
        """Seconds of CPU of the servers, of wrk and of this process."""
        used = os.times()
        own = used.user + used.system + used.children_user + used.children_system
        return own + sum(running.cpu_s for running in self.running)

    def _idle_share(self) -> float:
        before = [running.cpu_s for running in self.running]
        time.sleep(IDLE_S)
        return sum(running.cpu_s - used for running, used in zip(self.running, before, strict=True)) / IDLE_S

    def _note_open_doors(self, running: Running) -> None:
        if running.server.headers:
            status = running.status_without_headers(next(iter(running.server.routes)))
            if status != 401:
                self.results.notes.append(f"{running.server.name} answers {status} without a key: keys are not on.")


def _busy_s() -> float:
    """Seconds all cores together were not idle, those included that the machine's host took away."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def _cores() -> tuple[int, int]:
    """One for the servers, one for wrk; the same where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1], cores[0]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _selected(words: list[str]) -> tuple[list[Server], list[Cell]]:
    """Servers and cells that the words name; all where none is named. Raises SystemExit for an unknown word."""
    servers = [one for one in SERVERS if {one.name, one.name.partition("/")[0]} & set(words)]
    bodies = [body for body in BODIES if body in words] or BODIES
    connections = [count for count in CONNECTIONS if str(count) in words] or CONNECTIONS
    known = {name for one in SERVERS for name in (one.name, one.name.partition("/")[0])}
    unknown = set(words) - known - set(BODIES) - {str(count) for count in CONNECTIONS}
    if unknown:
        sys.exit(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(sorted(known))}, {BODIES}, {CONNECTIONS}")
    return servers or list(SERVERS), [Cell(body, count) for body in bodies for count in connections]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="servers, bodies and connections to take")
    parser.add_argument("--quick", action="store_true", help="by default 3 windows of 1 s, 1 timed start")
    parser.add_argument("--windows", type=int, help="in a cell, by default 5")
    parser.add_argument("--seconds", type=int, help="of a window, by default 2")
    parser.add_argument("--starts", type=int, help="timed starts, by default 3; 0: no starts, no memory")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the peers' environments are kept")
    asked = parser.parse_args()
    for name, usual, quick in (("windows", 5, 3), ("seconds", 2, 1), ("starts", 3, 1)):
        if getattr(asked, name) is None:
            setattr(asked, name, quick if asked.quick else usual)
    if not scoring_wrk.is_here():
        sys.exit(scoring_wrk.MISSING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the servers would stay
    servers, cells = _selected(asked.only)
    with tempfile.TemporaryDirectory(prefix="kwb-") as folder:
        field = Field(Path(folder), asked.cache, seconds=asked.seconds)
        try:
            field.lay_out([server for server in servers if {cell.body for cell in cells} & set(server.routes)])
            if asked.starts:
                field.time_starts(asked.starts)
            field.start()
            field.measure(cells, asked.windows)
        finally:
            field.stop()
    print_report(field.results, [server.name for server in servers], cells)
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    how = f"{asked.windows} windows of {asked.seconds} s in a cell"
    cores = f"{scoring_wrk.version()} on core {field.client_core}, servers on core {field.server_core}"
    print(f"- {machine}; {how}; {cores}, all started once and idle while another is measured.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
