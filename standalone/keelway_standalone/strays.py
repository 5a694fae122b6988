"""Processes of an `up` that is gone: found by the mark in their environment, and ended."""

from __future__ import annotations

import contextlib
import os
import time

import psutil

from keelway_standalone.layout import Layout
from keelway_standalone.surroundings import MARK

GONE_S = 5.0
REPLICA, NODE = "KEELWAY_REPLICA", "KEELWAY_NODE_DIR"


def leftovers(layout: Layout) -> list[psutil.Process]:
    """Our former children and theirs, except replicas: those go on serving and are the supervisor's to adopt."""
    return [p for p in _others() if _is_marked(p, layout) and not _is_replica(p, layout)]


def everything(layout: Layout) -> list[psutil.Process]:
    """All of it, replicas too: what may not be there any more after a stop."""
    return [p for p in _others() if _is_marked(p, layout) or _is_replica(p, layout)]


def replicas(layout: Layout) -> set[str]:
    """Names of the replicas that run now."""
    return {_environ(p)[REPLICA] for p in _others() if _is_replica(p, layout)}


def kill_and_wait(processes: list[psutil.Process]) -> None:
    """SIGKILL them and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    ends_at = time.monotonic() + GONE_S
    while any(_runs(process) for process in processes) and time.monotonic() < ends_at:
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    """A zombie does not: it holds no file and no port, and only its parent can remove it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _others() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if p.pid != os.getpid()]


def _is_marked(process: psutil.Process, layout: Layout) -> bool:
    return _environ(process).get(MARK) == str(layout.root)


def _is_replica(process: psutil.Process, layout: Layout) -> bool:
    """By the marks that the supervisor gives to replicas, and they to their own children."""
    environ = _environ(process)
    return REPLICA in environ and environ.get(NODE) == str(layout.node)


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
