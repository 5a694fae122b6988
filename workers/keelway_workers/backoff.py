"""How long to wait before starting again what keeps ending."""

from __future__ import annotations

FIRST_S = 0.5
LONGEST_S = 30.0
HEALTHY_AFTER_S = 60.0


class Backoff:
    """0.5, 1, 2, ... 30 seconds; from the beginning again after something has lived for a minute."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def pause_s(self, *, lived_s: float) -> float:
        """The pause before the next start, after a life of `lived_s` seconds."""
        if lived_s >= HEALTHY_AFTER_S:
            self._next_s = FIRST_S
        pause_s = self._next_s
        self._next_s = min(pause_s * 2, LONGEST_S)
        return pause_s
