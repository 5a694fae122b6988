"""Run all benchmarks on stacks of their own and print one table."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import claims, deploys, starts
from benchmarks.table import Row, print_table
from benchmarks.world import World


def main() -> int:
    """Each benchmark on the same stack, after the starts were timed on it."""
    with tempfile.TemporaryDirectory(prefix="keelway-bench-") as folder:
        world = World(Path(folder))
        rows: list[Row] = []
        try:
            rows += starts.measure(world)
            rows += claims.measure(world)
            rows += deploys.measure(world)
            rows += starts.memory(world)
        finally:
            world.stop()
        print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
