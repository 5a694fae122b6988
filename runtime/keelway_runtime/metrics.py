"""What one server did, in Prometheus' text format."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from typing import Iterable, Iterator

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """How often values were at most so large."""

    def __init__(self, name: str, help: str, bounds: tuple[float, ...]) -> None:
        self._name, self._help, self._bounds = name, help, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self) -> Iterator[str]:
        """The exposition."""
        yield from _head(self._name, self._help, "histogram")
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts):
            total += count
            yield f'{self._name}_bucket{{le="{bound}"}} {total}'
        yield f"{self._name}_sum {self._sum:.6f}"
        yield f"{self._name}_count {total}"


class Metrics:
    """What /score did since the start. Touched only by the event loop's thread."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.batches = Histogram("keelway_batch_size", "Requests that were scored at once.", SIZES)
        self._requests: Counter[int] = Counter()
        self._failed = 0
        self._latency = Histogram("keelway_request_seconds", "Time from the whole request to its answer.", SECONDS)
        self._run = Histogram("keelway_run_seconds", "Time inside run().", SECONDS)

    def count(self, *, status: int, seconds: float, run_ms: float | None, has_run_failed: bool) -> None:
        """Count one answered request; without run_ms, run() was not called for it."""
        self._requests[status] += 1
        self._failed += has_run_failed
        self._latency.observe(seconds)
        if run_ms is not None:
            self._run.observe(run_ms / 1000)

    def text(self, *, pids: Iterable[int], gauges: dict[str, tuple[str, str, float]]) -> bytes:
        """The exposition. `gauges`: what others know, by name, with kind and help; `pids`: processes to measure."""
        requests = ((f'{{status="{code}"}}', count) for code, count in sorted(self._requests.items()))
        lines = [*_head("keelway_requests_total", "Scoring requests answered.", "counter")]
        lines += [f"keelway_requests_total{labels} {count}" for labels, count in requests]
        cpu_s, memory = _measured(pids)
        known = {
            "keelway_run_failures_total": ("counter", "Requests that the entry script failed on.", self._failed),
            "keelway_requests_in_flight": ("gauge", "Scoring requests being answered.", self.in_flight),
            **gauges,
            "process_cpu_seconds_total": ("counter", "CPU time of all processes of this server.", cpu_s),
            "process_resident_memory_bytes": ("gauge", "Resident memory of all processes of this server.", memory),
        }
        for name, (kind, help, value) in known.items():
            lines += [*_head(name, help, kind), f"{name} {value}"]
        for histogram in (self._latency, self._run, self.batches):
            lines += histogram.lines()
        return ("\n".join(lines) + "\n").encode()


def _head(name: str, help: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {help}", f"# TYPE {name} {kind}"


def _measured(pids: Iterable[int]) -> tuple[float, int]:
    """CPU seconds and resident bytes, where the system has /proc."""
    cpu_s, memory = 0.0, 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - no Path for a hot scrape
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return cpu_s, memory
