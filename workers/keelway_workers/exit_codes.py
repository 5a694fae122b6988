"""How our children ended, told to each thread that asks."""

import os
import threading


class ExitCodes:
    """The exit codes of children that ended. The kernel tells each only once, and more than one thread may look."""

    def __init__(self) -> None:
        self._codes: dict[int, int] = {}
        # Between the kernel's answer and the note of it, another thread would find neither a child nor a code.
        self._asking = threading.Lock()

    def look(self, pid: int) -> tuple[bool, int | None]:
        """Whether it is a child of ours that the kernel has not called ended yet, and its exit code.

        The code is a signal's number below 0, or None while it runs or when it is not our child.
        A process whose first thread has ended is shown as a zombie, and has no exit code before its last thread ends.
        """
        with self._asking:
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # asked before, or started by an earlier supervisor
                return False, self._codes.get(pid)
            if not ended:
                return True, None
            self._codes[pid] = os.waitstatus_to_exitcode(status)
            return False, self._codes[pid]

    def forget(self, pid: int) -> None:
        """The pid belongs to a new child."""
        with self._asking:
            self._codes.pop(pid, None)
