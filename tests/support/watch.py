"""Someone who keeps asking a server while a test does something to it."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from tests.support.raw_http import Raw

POLL_S = 0.05


class Watch(threading.Thread):
    """Sends these requests over and over, each on a new connection: what they were answered, and the longest wait."""

    def __init__(self, port: int, *asked: bytes, timeout_s: float = 30) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self._port, self._asked, self._timeout_s = port, asked, timeout_s
        self._statuses: list[set[int]] = [set() for _ in asked]
        self._is_over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, frames: TracebackType | None) -> None:
        self._is_over.set()
        self.join()

    def statuses(self, index: int = 0) -> set[int]:
        """Of the first request, or of another. One without an answer counts as 0."""
        return self._statuses[index]

    def run(self) -> None:
        """Ask until it is over."""
        while True:
            for index, asked in enumerate(self._asked):
                started = time.monotonic()
                self._statuses[index].add(self._status(asked))
                self.longest_s = max(self.longest_s, time.monotonic() - started)
            if self._is_over.wait(POLL_S):
                break

    def _status(self, asked: bytes) -> int:
        try:
            with Raw(self._port, timeout_s=self._timeout_s) as connection:
                answer = connection.send(asked).answer_if_any()
        except OSError:
            return 0
        return 0 if answer is None else answer.status
