"""What an entry script may say of its run() by a decorator of ours."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

MARK = "__keelway_batchable__"
Run = TypeVar("Run", bound=Callable[..., Any])


def batchable(max_size: int = 64, max_delay_ms: float = 0) -> Callable[[Run], Run]:
    """Decorator: run() may be given the rows of several requests at once, and gives one result for each row.

    At most `max_size` requests; the first of them waits at most `max_delay_ms` for others, beyond the time for which
    the worker is busy anyway.
    """
    if max_size < 1 or max_delay_ms < 0:
        raise ValueError("max_size must be at least 1 and max_delay_ms at least 0")

    def mark(run: Run) -> Run:
        setattr(run, MARK, (max_size, max_delay_ms))
        return run

    return mark


def batch_of(run: Callable[..., Any]) -> tuple[int, float]:
    """Size and delay in ms that a script asks for; 0 where it does not."""
    return getattr(run, MARK, (0, 0))
