"""What was measured as tables, and beside the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from benchmarks.scoring_wrk import Window
from benchmarks.table import Row, print_table, seconds, spread


class Cell(NamedTuple):
    """A body, and how many connections ask with it at once."""

    body: str
    connections: int


@dataclass(frozen=True)
class Started:
    """Seconds from the command to the first good answer, and of CPU; memory of all its processes after some load."""

    times_s: list[float]
    cpu_s: float
    pss_mib: float
    rss_mib: float


@dataclass
class Results:
    """Everything that was measured, by server."""

    windows: dict[tuple[str, Cell], list[Window]] = field(default_factory=dict)
    starts: dict[str, Started] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    idle_share: float = 0.0
    others_share: float = 0.0


@dataclass(frozen=True)
class Target:
    """Requests per second of ours to those of a peer, at least `goal` times; none: only to be seen."""

    ours: str
    peer: str
    cell: Cell
    goal: float | None


# Not slower means within what two runs of the same server differ by.
NOT_SLOWER = 0.97
PSS_MIB, START_S = 160, 1.5
TARGETS = (
    *(Target("keelway", "azureml", Cell("small", count), goal) for count, goal in ((64, 4), (1, 2))),
    *(Target("keelway/schema", "azureml/schema", Cell("small", count), goal) for count, goal in ((64, 4), (1, 2))),
    *(Target("keelway", "mlserver", Cell("small", count), 3) for count in (8, 64)),
    *(Target("keelway", "bare-asgi", Cell("small", count), 0.75) for count in (8, 64)),
    Target("keelway", "bare-protocol", Cell("small", 64), None),
    Target("keelway/batch", "azureml/schema", Cell("small", 64), 20),
    Target("keelway/batch", "azureml", Cell("small", 64), None),
    Target("keelway/batch", "keelway/schema", Cell("small", 1), NOT_SLOWER),
    Target("keelway", "azureml", Cell("rows", 8), 4),
    Target("keelway/schema", "azureml/schema", Cell("rows", 8), 4),
    Target("keelway", "mlserver", Cell("rows", 8), 1.2),
    Target("keelway/schema", "mlserver", Cell("rows", 8), 1.2),
    Target("keelway", "bare-asgi", Cell("rows", 8), None),
    Target("keelway/raw", "azureml/raw", Cell("raw", 8), 6),
)
BODY_NAMES = {
    "small": "Small JSON: 2 rows of 10",
    "rows": "1,000 rows of 10 as JSON",
    "raw": "1 MiB of bytes, a small answer",
}


def print_report(results: Results, names: Sequence[str], cells: Sequence[Cell]) -> None:
    """All tables, with what was left out and why."""
    for body in dict.fromkeys(cell.body for cell in cells):
        _print_body(results, names, [cell for cell in cells if cell.body == body])
    if results.starts:
        _print_starts(results, names)
    rows = [*_ratios(results), *_limits(results)]
    if rows:
        print("\n### Targets\n")
        print_table(rows)
    _print_notes(results)


def _print_body(results: Results, names: Sequence[str], cells: Sequence[Cell]) -> None:
    print(f"\n### {BODY_NAMES[cells[0].body]}\n")
    print("Median requests/s (lowest to highest window), p50 / p99 in ms; requests per second of CPU.\n")
    rows = [
        [name, *(_figures(results.windows.get((name, cell), [])) for cell in cells)]
        for name in names
        if any((name, cell) in results.windows for cell in cells)
    ]
    _print_columns(["server", *(of_connections(cell) for cell in cells)], rows)


def of_connections(cell: Cell) -> str:
    """As people say it."""
    return f"{cell.connections} connection{'s' if cell.connections > 1 else ''}"


def _figures(windows: Sequence[Window]) -> str:
    if not windows:
        return "-"
    rates = [window.rate for window in windows]
    p50, p99, cpu = (median(getattr(window, name) for window in windows) for name in ("p50_ms", "p99_ms", "cpu_rate"))
    errors = sum(window.errors for window in windows)
    failed = f" **{errors} errors**" if errors else ""
    return f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}), {p50:.2f} / {p99:.2f}; {cpu:,.0f}{failed}"


def _print_starts(results: Results, names: Sequence[str]) -> None:
    print("\n### Start and memory\n")
    print("Command to first good answer, bytecode compiled, alone on its core. Memory of all processes after load.\n")
    rows = []
    for name in names:
        if found := results.starts.get(name):
            rows.append(
                [
                    name,
                    seconds(found.times_s),
                    f"{found.cpu_s:.2f} s",
                    f"{found.pss_mib:.0f} MiB",
                    f"{found.rss_mib:.0f} MiB",
                ]
            )
    _print_columns(["server", "start", "of it CPU", "PSS", "RSS"], rows)


def _print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def _ratios(results: Results) -> list[Row]:
    rows = []
    for target in TARGETS:
        ours, peers = (results.windows.get((name, target.cell), []) for name in (target.ours, target.peer))
        # Round by round: what else the machine did met both.
        ratios = [own.rate / other.rate for own, other in zip(ours, peers, strict=False) if other.rate]
        if ratios:
            by_cpu = median(own.cpu_rate / other.cpu_rate for own, other in zip(ours, peers, strict=False))
            failed = ", with errors" if any(window.errors for window in (*ours, *peers)) else ""
            rows.append(
                Row(
                    f"{target.cell.body}, {of_connections(target.cell)}: {target.ours} to {target.peer}",
                    f"{median(window.rate for window in ours):,.0f}/s",
                    _judged(target.goal, median(ratios)),
                    f"{median(window.rate for window in peers):,.0f}/s",
                    f"{spread(ratios, 'x', 2)}, by CPU {by_cpu:.2f}x{failed}",
                )
            )
    return rows


def _judged(goal: float | None, measured: float) -> str:
    if goal is None:
        return ""
    return f"{goal:g}x: {'met' if measured >= goal else 'MISSED'}"


def _limits(results: Results) -> list[Row]:
    rows = []
    for name in ("keelway", "keelway/schema"):
        if found := results.starts.get(name):
            start_s = median(found.times_s)
            fits = "met" if found.pss_mib <= PSS_MIB else "MISSED"
            rows.append(
                Row(
                    f"memory of {name}",
                    f"PSS {found.pss_mib:.0f} MiB (RSS {found.rss_mib:.0f})",
                    f"{PSS_MIB} MiB: {fits}",
                )
            )
            fits = "met" if start_s <= START_S else "MISSED"
            rows.append(Row(f"start of {name}", f"{start_s:.2f} s, CPU {found.cpu_s:.2f} s", f"{START_S} s: {fits}"))
    return rows


def _print_notes(results: Results) -> None:
    print("\n### Notes\n")
    for environment, text in results.versions.items():
        print(f"- {environment}: {text}")
    print("- By CPU: by seconds that a server's processes had a core, which other programs falsify least.")
    print("- MLServer is asked in its own protocol (V2, one flat FP64 tensor); its raw route is a custom handler.")
    print(f"- All servers together use {results.idle_share:.1%} of their core when idle.")
    print(f"- Other programs used {results.others_share:.2f} cores meanwhile: the nearer to 0, the truer the figures.")
    for note in results.notes:
        print(f"- {note}")
    for name, why in results.left_out.items():
        print(f"- **left out from there on: {name}**: {why}")
