"""A real image registry (Debian's docker-registry) that wants a password."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support.stack import until

USERNAME, PASSWORD = "keeper", "s3cret"
BCRYPT = "$2b$04$cIK4SdJSyNTunXxKEPsN8eHztYnAfHasP1QIbVD5RV4gl0cN2vMDG"  # of the password


class Registry:
    """One on a port of loopback, which engines take without TLS."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    @staticmethod
    def missing() -> str | None:
        """Why none can be started here."""
        return None if shutil.which("docker-registry") else "no docker-registry on this machine"

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self._folder / "htpasswd").write_text(f"{USERNAME}:{BCRYPT}\n")
        config = self._folder / "config.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self._folder / 'data'}}}}}\n"
            f"http: {{addr: '{self.address}'}}\n"
            f"auth: {{htpasswd: {{realm: tests, path: {self._folder / 'htpasswd'}}}}}\n"
        )
        log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=log, env=dict(os.environ)
        )
        log.close()
        until(self._answers, "the registry answers")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        host, _, port = self.address.partition(":")
        with socket.socket() as there:
            return there.connect_ex((host, int(port))) == 0
