"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, how often, and the goal it has, if it has one."""

    what: str
    value: str
    goal: str = ""


def print_table(rows: Sequence[Row]) -> None:
    """A table as markdown."""
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("what", "value", "goal")]
    header = Row("what", "measured", "goal")
    for row in (header, Row(*("-" * max(width, 4) for width in widths)), *rows):
        cells = (row.what, row.value, row.goal)
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |")


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile (0..1) by linear interpolation (Hyndman & Fan type 7). Raises IndexError on nothing."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def seconds(values: Sequence[float]) -> str:
    """Median and extremes of several runs, in seconds."""
    return f"{quantile(values, 0.5):.2f} s ({min(values):.2f} to {max(values):.2f}, n={len(values)})"


def milliseconds(values: Sequence[float]) -> str:
    """Median and 95th percentile of times in seconds, printed in ms."""
    return f"p50 {quantile(values, 0.5) * 1000:.0f} ms, p95 {quantile(values, 0.95) * 1000:.0f} ms (n={len(values)})"
