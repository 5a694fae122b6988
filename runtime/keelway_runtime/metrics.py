"""Counters of one server, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What /score did since the start. Touched only by the event loop's thread."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: Counter[int] = Counter()
        self._run_count = 0
        self._run_seconds = 0.0

    def count(self, *, status: int, run_ms: float | None) -> None:
        """Count one answered request; without run_ms, run() was not called for it."""
        self._requests[status] += 1
        if run_ms is not None:
            self._run_count += 1
            self._run_seconds += run_ms / 1000

    def text(self) -> str:
        """The exposition, as a scraper reads it."""
        lines = ["# HELP keelway_requests_total Scoring requests answered.", "# TYPE keelway_requests_total counter"]
        lines += [f'keelway_requests_total{{status="{code}"}} {n}' for code, n in sorted(self._requests.items())]
        lines += [
            "# HELP keelway_requests_in_flight Scoring requests being answered.",
            "# TYPE keelway_requests_in_flight gauge",
            f"keelway_requests_in_flight {self.in_flight}",
            "# HELP keelway_run_seconds Time inside run().",
            "# TYPE keelway_run_seconds summary",
            f"keelway_run_seconds_sum {self._run_seconds:.6f}",
            f"keelway_run_seconds_count {self._run_count}",
        ]
        return "\n".join(lines) + "\n"
