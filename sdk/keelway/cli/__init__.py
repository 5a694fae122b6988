"""The `keelway` command. One file for each noun; whatever takes long to import is imported where it is used."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `keelway` command."""
    try:
        from keelway.cli.app import run  # noqa: PLC0415  (its absence needs an answer of its own)
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich", "yaml"}:
            raise
        sys.exit(f"keelway: the command line needs {error.name}: pip install 'keelway-sdk[cli]'")
    run()
