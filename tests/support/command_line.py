"""The `keelway` command as a process of its own, in the context that `up` made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.stack import Stack

KEELWAY = Path(sys.executable).with_name("keelway")


class CommandLine:
    """Runs commands against a stack: `keelway("model", "list").stdout`."""

    def __init__(self, stack: Stack) -> None:
        home = str(stack.data_dir / "config")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KEELWAY_")}
        self.env = {**kept, "XDG_CONFIG_HOME": home}

    def __call__(
        self, *arguments: str | Path, env: Mapping[str, str] = {}, wait_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        command = [KEELWAY, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={**self.env, **env}, timeout=wait_s)

    def json(self, *arguments: str | Path) -> Any:
        """The document that a command prints with `--json`; it must succeed."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def problem(self, *arguments: str | Path, code: int = 1) -> dict[str, Any]:
        """The document on stderr of a command that must fail with this exit code; stdout must be empty."""
        done = self(*arguments, "--json")
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        return json.loads(done.stderr[done.stderr.index("{") :])
