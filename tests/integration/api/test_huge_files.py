"""A file of 2 GiB goes in and out, and neither the API nor the client holds more of it than some parts."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.api import Api
from tests.support.command_line import KEELWAY

SIZE_BYTES = 2 * 2**30 + 12_345
GROWTH_BYTES = 64 * 2**20
CLIENT_BYTES = 160 * 2**20
MARK_EVERY_BYTES = 2**20  # several in each part and each range: one that is in another's place shows


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """An API of its own: what it holds is what this file makes it hold."""
    api = Api(tmp_path_factory.mktemp("huge"))
    api.start()
    yield api
    api.stop()


class Memory:
    """The most that a process held since this began."""

    def __init__(self, pid: int) -> None:
        self._process, self._ended = psutil.Process(pid), threading.Event()
        self.before_bytes = self.peak_bytes = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            while not self._ended.wait(0.05):
                self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)


def command(api: Api, *arguments: str | Path) -> int:
    """Run a command that must succeed; the most memory it had."""
    env = {**os.environ, "KEELWAY_URL": api.url, "KEELWAY_TOKEN": api.token("admin")}
    process = subprocess.Popen([KEELWAY, *arguments], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Looked at from outside: what the kernel keeps as a child's most includes what its parent held when it forked.
    with Memory(process.pid) as memory:
        assert process.wait() == 0
    return memory.peak_bytes


def mark(offset: int) -> bytes:
    return f"byte {offset} ".encode()


def offsets() -> range:
    return range(0, SIZE_BYTES, MARK_EVERY_BYTES)


def make(file: Path) -> None:
    """Zeros, which cost no disk, with marks between them that say where they are."""
    with file.open("wb") as stream:
        stream.truncate(SIZE_BYTES)
        for offset in offsets():
            stream.seek(offset)
            stream.write(mark(offset))


def is_same(file: Path) -> bool:
    """Whether all marks are where they were; between them are zeros, and the client compared the digest of all."""
    with file.open("rb") as stream:
        return stream.seek(0, os.SEEK_END) == SIZE_BYTES and all(
            stream.seek(offset) == offset and stream.read(64) == mark(offset).ljust(64, b"\0") for offset in offsets()
        )


@pytest.mark.timeout(600)
def test_two_gibibytes_go_in_and_out_with_flat_memory(api, tmp_path):
    file = tmp_path / "huge.bin"
    make(file)

    with Memory(api.process.pid) as memory:
        sender = command(api, "model", "register", "-n", "huge", "-p", file)
        receiver = command(api, "model", "download", "huge:1", "-t", tmp_path / "got")

    assert max(sender, receiver) < CLIENT_BYTES
    assert memory.peak_bytes - memory.before_bytes < GROWTH_BYTES
    assert is_same(tmp_path / "got" / "huge.bin")
    (tmp_path / "got" / "huge.bin").unlink()
