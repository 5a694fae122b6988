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
        """One line with the time since the start."""
        _line(f"{self.elapsed_s:6.1f} s  {text}")


class Steps:
    """Steps one after the other, on one clock: each is told with its own time, and the times add up to the total."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._told_s = 0.0

    def done(self, text: str) -> None:
        """A step has ended; the next begins now."""
        now_s = round(time.monotonic() - self._start, 1)  # rounded before it is subtracted: what is printed adds up
        _line(f"{now_s - self._told_s:6.1f} s  {text}")
        self._told_s = now_s

    def note(self, text: str) -> None:
        """Something about the running step."""
        _line(f"{'':8}  {text}")

    def total(self, text: str) -> None:
        """The sum of all steps that were told."""
        _line(f"{self._told_s:6.1f} s  {text}")


def _line(text: str) -> None:
    # A terminal that went away is no reason to stop.
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)
