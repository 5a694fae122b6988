"""How long `up` takes to be ready, to stop, and what it holds in memory when idle."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import psutil

from benchmarks.table import Row, seconds
from benchmarks.world import World
from keelway_standalone.strays import everything

RESTARTS = 3
IDLE_S = 10


def measure(world: World) -> list[Row]:
    """The first start on an empty data directory, then some on the same one."""
    first = world.start()
    stops, again = [], []
    for _ in range(RESTARTS):
        stops.append(world.stop())
        again.append(world.start())
    return [
        Row("up to ready, first time", seconds([first]), "15 s"),
        Row("up to ready, again", seconds(again), "6 s"),
        Row("stop", seconds(stops), "15 s"),
    ]


def memory(world: World) -> list[Row]:
    """Proportional set size of each process of the idle stack: shared pages are counted once."""
    time.sleep(IDLE_S)
    sizes: dict[str, int] = defaultdict(int)
    up = psutil.Process(world.stack.pid)
    for process in [up, *everything(world.stack.layout)]:
        sizes[_role(process)] += _pss_bytes(process.pid)
    rows = [Row(f"idle memory, {role}", _mib(size)) for role, size in sorted(sizes.items(), key=lambda item: -item[1])]
    return [*rows, Row("idle memory, all", _mib(sum(sizes.values())), "1024 MiB")]


def _role(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    known = {
        "keelway_standalone": "up",
        "keelway_api": "api",
        "keelway_workers worker": "worker",
        "keelway_workers supervisor": "supervisor",
        "keelway_runtime": "replica",
    }
    return next((role for mark, role in known.items() if mark in command), process.name())


def _pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
