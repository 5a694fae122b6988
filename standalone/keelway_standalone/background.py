"""`keelway up` in a process of its own: for the demo, and for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keelway_standalone.errors import StartFailed
from keelway_standalone.layout import Layout
from keelway_standalone.processes import bound_to_us
from keelway_standalone.secrets import Secrets
from keelway_standalone.status import read

POLL_S = 0.05
STOP_LIMIT_S = 20.0


class BackgroundStack:
    """A stack in a data directory, on ports of its own choice. It gets a SIGTERM when our process ends.

    It keeps the command line's credentials inside the data directory: nobody's current context changes.
    """

    def __init__(
        self, data_dir: Path, *, output: Path | None = None, more: tuple[str, ...] = (), env: Mapping[str, str] = {}
    ) -> None:
        self.layout = Layout.at(data_dir)
        self.data_dir = self.layout.root
        self.output = output
        self._more = more
        self._env = {**os.environ, "XDG_CONFIG_HOME": str(self.data_dir / "config"), **env}
        self._up: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of `up`."""
        if self._up is None:
            raise StartFailed("up", "was not started")
        return self._up.pid

    @property
    def status(self) -> dict[str, Any]:
        """status.json as it is now."""
        return read(self.layout.status)

    @property
    def url(self) -> str:
        """The API's address."""
        return self.status["url"]

    @property
    def gateway_url(self) -> str:
        """The base of scoring addresses."""
        return self.status["gateway_url"]

    @property
    def admin_token(self) -> str:
        """The administrator's token."""
        return Secrets(self.layout.secrets).read("admin_token")

    def start(self, *, wait_s: float = 90.0) -> None:
        """Start it and wait until it is ready. Raises StartFailed with what it printed last."""
        self.launch()
        try:
            self.wait_ready(wait_s)
        except StartFailed:
            self.stop()
            raise

    def launch(self) -> None:
        """Start it without waiting for it; one that was started before must be ending."""
        if self._up is not None:
            self._up.wait(STOP_LIMIT_S)
        ports = ("--port", "0", "--gateway-port", "0")
        up = [sys.executable, "-m", "keelway_standalone", "up", "--data-dir", str(self.data_dir), *ports, *self._more]
        with (self.output or Path(os.devnull)).open("ab") as output:
            self._up = subprocess.Popen(
                bound_to_us(up, by=signal.SIGTERM),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output if self.output else None,
                stderr=output if self.output else None,
                start_new_session=True,  # Ctrl-C is for whoever started us; we pass it on in order
            )

    def wait_ready(self, wait_s: float) -> None:
        """Wait until all of it works, e.g. after it was launched."""
        ends_at = time.monotonic() + wait_s
        while not self.is_ready():
            if self._up is None or self._up.poll() is not None:
                raise StartFailed("up", "ended before it was ready", self._printed())
            if time.monotonic() > ends_at:
                raise StartFailed("up", f"not ready after {wait_s:.0f} s", self._printed())
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        """Whether this very `up` says that it is ready."""
        status = self.status
        return status.get("state") == "ready" and status.get("pid") == self.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it in order, and give its exit code."""
        if self._up is None:
            return 0
        if self._up.poll() is None:
            self._up.send_signal(number)
        try:
            return self._up.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._up.kill()
            return self._up.wait()

    def _printed(self) -> list[str]:
        return self.output.read_text(errors="replace").splitlines()[-30:] if self.output else []
