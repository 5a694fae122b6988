"""`python -m keelway_standalone up|demo|doctor`: the same as `keelway ...`, without the command line's packages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keelway_standalone import cli


def parser() -> argparse.ArgumentParser:
    """The flags, as the command line has them."""
    root = argparse.ArgumentParser(prog="keelway_standalone")
    commands = root.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything, until Ctrl-C")
    up.add_argument("--host", default="127.0.0.1")
    up.add_argument("--port", type=int, default=7300)
    up.add_argument("--gateway-port", type=int, default=7301)
    up.add_argument(
        "--services-only", action="store_true", help="without Keelway's own processes: to run those by hand"
    )
    for command in (up, commands.add_parser("demo"), commands.add_parser("doctor")):
        command.add_argument("--data-dir", type=Path)
    return root


def main() -> int:
    """Run one command and give its exit code."""
    given = parser().parse_args()
    if given.command == "up":
        return cli.up(given.data_dir, given.host, given.port, given.gateway_port, services_only=given.services_only)
    return {"demo": cli.demo, "doctor": cli.doctor}[given.command](given.data_dir)


if __name__ == "__main__":
    sys.exit(main())
