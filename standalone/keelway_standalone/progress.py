"""Short lines with times, for the person who started us."""

from __future__ import annotations

import contextlib
import time


class Progress:
    """Says what happens, in seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """One line. A terminal that went away is no reason to stop."""
        with contextlib.suppress(OSError, ValueError):
            print(f"{self.elapsed_s:6.1f} s  {text}", flush=True)
