"""Processes as Linux knows them: which one a pid really is, and who carries a mark in its environment."""

from __future__ import annotations

import os
import signal
import time
from functools import cache
from pathlib import Path

PROC = Path("/proc")
ENDED = {"Z", "X", "x"}


def birth(pid: int) -> str | None:
    """What tells this process from a later one of the same pid; None when it is not alive (a zombie is not).

    Ticks since boot and the boot itself, as the wall clock may be set while a replica runs.
    """
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ENDED:
        return None
    return f"{_boot()}:{fields[19]}"


@cache
def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def is_alive(pid: int | None, born: str | None) -> bool:
    """Whether exactly this process still runs."""
    return pid is not None and born is not None and birth(pid) == born


def environ(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone or not ours to read."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def marked(name: str) -> dict[int, dict[str, str]]:
    """Live processes of this user that were started with the variable `name`, with their environments."""
    needle = f"{name}=".encode()
    found: dict[int, dict[str, str]] = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != os.geteuid() or needle not in (entry / "environ").read_bytes():
                continue
        except OSError:
            continue
        pid = int(entry.name)
        variables = environ(pid)
        if name in variables and birth(pid) is not None:
            found[pid] = variables
    return found


def kill_marked(marks: dict[str, str], *, timeout_s: float = 5.0) -> int:
    """SIGKILL every process that carries all these variables, until none is left. Returns how many there were.

    Finds those that left their process group by a double fork and setsid; repeated, as one may be forking meanwhile.
    """
    first = next(iter(marks))
    killed: set[int] = set()
    ends_at = time.monotonic() + timeout_s
    while time.monotonic() < ends_at:
        pids = [
            pid for pid, variables in marked(first).items() if pid != os.getpid() and marks.items() <= variables.items()
        ]
        if not pids:
            break
        for pid in pids:
            send(pid, signal.SIGKILL)
        killed.update(pids)
        time.sleep(0.01)
    return len(killed)


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process, which may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def send_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group that `pid` leads, which may be gone already."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
