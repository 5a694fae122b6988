"""What runs on this machine for a stack, told from the processes themselves."""

from __future__ import annotations

import psutil

from keelway_standalone.strays import everything
from tests.support.stack import Stack

SUBTREE = "KEELWAY_SUBTREE"


def replicas(stack: Stack, service: str | None = None) -> list[psutil.Process]:
    """The replicas that run now, of one service or of all: their first processes, not the workers below those."""
    found = []
    for process in everything(stack.layout):
        variables = environ(process)
        is_first = "KEELWAY_REPLICA" in variables and "KEELWAY_FRONT_PID" not in variables
        if is_first and service in {None, variables.get("SERVICE_NAME")}:
            found.append(process)
    return found


def commands(stack: Stack) -> list[psutil.Process]:
    """What operations run at this moment: builds, which work in this node's directory."""
    node = str(stack.layout.node)
    marked = (process for process in psutil.process_iter() if SUBTREE in environ(process))
    return [process for process in marked if node in _command(process)]


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; nobody when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def environ(process: psutil.Process) -> dict[str, str]:
    """What a process was started with; empty when it has ended."""
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except (psutil.Error, OSError):
        return {}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
