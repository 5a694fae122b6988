"""How long to wait before a process that ended is started again."""

from __future__ import annotations

FIRST_S = 0.2
LAST_S = 15.0
STEADY_S = 60.0


class Backoff:
    """0.2, 0.5, 1, 2, 4, 8, 15, 15 ... seconds; from the start again after a minute of steady running."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def after(self, lived_s: float) -> float:
        """Seconds to wait, after a process that lived so long."""
        if lived_s >= STEADY_S:
            self._next_s = FIRST_S
        wait_s = self._next_s
        self._next_s = 0.5 if wait_s == FIRST_S else min(wait_s * 2, LAST_S)
        return wait_s
