"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure: what was measured of ours, how often, and the goal it has, if it has one.

    `peers`: the same of others; `ratio`: how many times better ours is.
    """

    what: str
    value: str
    goal: str = ""
    peers: str = ""
    ratio: str = ""


TITLES = Row("what", "ours", "goal", "peers", "ratio")
COLUMNS = ("what", "value", "peers", "ratio", "goal")


def print_table(rows: Sequence[Row]) -> None:
    """A table as markdown, without columns that are empty."""
    columns = [name for name in COLUMNS if any(getattr(row, name) for row in rows)]
    widths = [max(len(getattr(row, name)) for row in (TITLES, *rows)) for name in columns]
    cells = [[getattr(row, name) for name in columns] for row in (TITLES, *rows)]
    for line in (cells[0], ["-" * width for width in widths], *cells[1:]):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |", flush=True)


def spread(values: Sequence[float], unit: str, digits: int) -> str:
    """Median and extremes of several runs."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), quantile(values, 0.5), max(values)))
    return f"{middle} {unit} ({low} to {high}, n={len(values)})"


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
