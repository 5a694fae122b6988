"""Processes of an `up` that is gone: found by the mark in their environment, and ended."""

from __future__ import annotations

import contextlib
import os

import psutil

from keelway_standalone.layout import Layout
from keelway_standalone.surroundings import MARK

GONE_S = 5.0


def leftovers(layout: Layout) -> list[psutil.Process]:
    """Our former children and theirs, except replicas: those go on serving and are the supervisor's to adopt."""
    return [p for p in _others() if _is_marked(p, layout) and not _is_replica(p, layout)]


def everything(layout: Layout) -> list[psutil.Process]:
    """All of it, replicas too: what may not be there any more after a stop."""
    return [p for p in _others() if _is_marked(p, layout) or _is_replica(p, layout)]


def kill_and_wait(processes: list[psutil.Process]) -> None:
    """SIGKILL them and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=GONE_S)


def _others() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if p.pid != os.getpid()]


def _is_marked(process: psutil.Process, layout: Layout) -> bool:
    try:
        return process.environ().get(MARK) == str(layout.root)
    except (psutil.Error, OSError):
        return False


def _is_replica(process: psutil.Process, layout: Layout) -> bool:
    """Whether it runs the Python of an environment in the node's folder."""
    try:
        return process.cmdline()[0].startswith(f"{layout.node}{os.sep}")
    except (psutil.Error, OSError, IndexError):
        return False
