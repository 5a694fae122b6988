"""Run all benchmarks on stacks of their own and print their tables."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import claims, deploys, images, registry, starts, transfers
from benchmarks.table import Row, print_table
from benchmarks.world import World

SCORING = "benchmarks.scoring"


def _deployment() -> list[Row]:
    """Each benchmark on the same stack, after the starts were timed on it."""
    with tempfile.TemporaryDirectory(prefix="keelway-bench-") as folder:
        world = World(Path(folder))
        try:
            return [
                *starts.measure(world),
                *claims.measure(world),
                *deploys.measure(world),
                *starts.memory(world),
            ]
        finally:
            world.stop()


def main() -> int:
    """Each part prints its table when it is done: what breaks later takes nothing away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds and smaller files")
    is_quick = parser.parse_args().quick
    parts = {
        "Deployment": _deployment,
        "Registry": lambda: registry.measure(registry.QUICK if is_quick else registry.Effort()),
        "Transfers": lambda: transfers.measure(**(transfers.QUICK if is_quick else transfers.FULL)),
    }
    for title, measure in parts.items():
        print(f"\n## {title}\n", flush=True)
        print_table(measure())
    print("\n## Images\n", flush=True)
    if why := images.missing():
        print(f"Left out: {why}")
    else:
        print_table(images.measure())
    if importlib.util.find_spec(SCORING) is None:
        return 0
    print("\n## Scoring\n", flush=True)
    return subprocess.run([sys.executable, "-m", SCORING, *(["--quick"] if is_quick else [])], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
