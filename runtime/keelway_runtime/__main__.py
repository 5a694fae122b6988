"""`python -m keelway_runtime`: serve the entry script that the environment names."""

from __future__ import annotations

import os
import sys

from keelway_runtime.server import serve
from keelway_runtime.settings import Settings, SettingsError

EXIT_MISCONFIGURED = 2


def main() -> None:
    """Read the settings and serve; ends with 2 when they cannot be served."""
    try:
        serve(Settings.from_environ(os.environ))
    except SettingsError as error:
        print(f"keelway_runtime: {error}", file=sys.stderr)
        sys.exit(EXIT_MISCONFIGURED)


if __name__ == "__main__":
    main()
