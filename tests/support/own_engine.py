"""A container engine of a test's own, that it may kill, fill up, or have know nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.support.stack import until


class OwnEngine:
    """dockerd with a socket and folders of its own, without a network. `size` puts its data on a disk of that size.

    In a network namespace of its own: one without a bridge takes away the bridge that the machine's engine uses.
    """

    def __init__(self, folder: Path, *, size: str | None = None) -> None:
        self.folder, self._size = folder, size
        self.host = f"unix://{folder}/docker.sock"

    @staticmethod
    def missing() -> str | None:
        """Why none can be started here."""
        if os.geteuid() != 0:
            return "starting an engine needs root"
        return None if shutil.which("dockerd") else "no dockerd on this machine"

    def start(self) -> None:
        """Start it and wait until it answers."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        if self._size and not data.is_mount():
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self._size}", "none", str(data)], check=True)
        words = ["--data-root", str(data), "--exec-root", str(self.folder / "exec"), "--host", self.host]
        more = ["--pidfile", str(self.folder / "pid"), "--bridge", "none", "--iptables=false", "--ip6tables=false"]
        driver = ["--storage-driver", "vfs"] if self._size else []
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "dockerd", *words, *more, *driver], stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, "the engine answers", 60)

    def kill(self) -> None:
        """SIGKILL, to it, to what runs containers for it, and to what runs in those."""
        ours = [one for one in psutil.process_iter() if f"{self.folder}/" in " ".join(_command(one))]
        for process in {*ours, *(inner for one in ours for inner in _descendants(one))}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Stop it where it stands: it takes connections and answers none."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """End it and take its folders away."""
        self.kill()
        time.sleep(0.2)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def docker(self, *words: str) -> str:
        """What a docker command prints there."""
        done = subprocess.run(["docker", "--host", self.host, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _answers(self) -> bool:
        asked = subprocess.run(["docker", "--host", self.host, "info"], capture_output=True, timeout=30)
        return asked.returncode == 0


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []
