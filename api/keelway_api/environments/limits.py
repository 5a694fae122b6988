"""Runs a command within limits: `python -I -S limits.py PARENT_PID MEMORY_BYTES COMMAND...`.

It may take so much memory and no more, writes no core, and dies with whoever started it. A program of its own, as
setting this between fork and exec of a process with threads may deadlock.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command, unless the parent is gone already."""
    parent, memory_bytes, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
