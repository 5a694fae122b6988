"""What an attempt says about itself: numbered reports, with log text gathered for a moment, sent in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from keelway.contracts.operations import OperationError, OperationState, Report
from keelway.errors import ProblemError
from keelway_workers.failures import WorkStopped

GATHER_S = 0.3
MAX_LOG = 256 * 1024
MAX_WAITING = 4 * 1024 * 1024  # while the API is away; what comes after is counted and dropped

logger = structlog.get_logger(__name__)


@dataclass
class Entry:
    """A new step, or text to append to the log."""

    step: str | None = None
    log: str = ""


class Reporter:
    """Sends an attempt's steps and log from a thread of its own, so that work never waits for the API."""

    def __init__(self, epoch: int, send: Callable[[Report], object]) -> None:
        self._epoch = epoch
        self._send = send
        self._seq = 0
        self._entries: deque[Entry] = deque()
        self._waiting = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def step(self, name: str) -> None:
        """A new step begins."""
        with self._lock:
            self._entries.append(Entry(step=name))

    def log(self, line: str) -> None:
        """A line for the operation's log."""
        text = clean(line) + "\n"
        with self._lock:
            if self._waiting + len(text) > MAX_WAITING:
                self._dropped += 1
                return
            self._waiting += len(text)
            self._entries.append(Entry(log=text))

    def close(self) -> None:
        """Stop gathering; what is waiting goes with `finish`, or nowhere."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def finish(
        self, state: OperationState, *, result: dict[str, Any] | None = None, error: OperationError | None = None
    ) -> None:
        """Send what is left, then how it ended. Raises what the sender raises when that cannot be said any more."""
        self.close()
        self._flush()
        self._deliver(Report(epoch=self._epoch, seq=1, state=state, step=None, log=None, result=result, error=error))

    def _run(self) -> None:
        while not self._ending.wait(GATHER_S):
            try:
                self._flush()
            except (WorkStopped, ProblemError):
                return  # the attempt is over; whoever ended it knows why

    def _flush(self) -> None:
        while report := self._next():
            self._deliver(report)

    def _next(self) -> Report | None:
        with self._lock:
            if not self._entries:
                return None
            step = self._entries.popleft().step if self._entries[0].step else None
            text = self._take_text()
            if self._dropped:
                text += f"[{self._dropped} lines dropped while the API was away]\n"
                self._dropped = 0
        return Report(epoch=self._epoch, seq=1, step=step, log=text or None)

    def _take_text(self) -> str:
        parts: list[str] = []
        size = 0
        while self._entries and not self._entries[0].step and size < MAX_LOG:
            parts.append(self._entries.popleft().log)
            size += len(parts[-1])
        self._waiting -= size
        return "".join(parts)

    def _deliver(self, report: Report) -> None:
        """Number and send a report. One that the API finds malformed is said to our own log: it never will be taken."""
        self._seq += 1
        try:
            self._send(report.model_copy(update={"seq": self._seq}))
        except ProblemError as refused:
            if refused.status != 422 or report.state is not OperationState.RUNNING:
                raise
            logger.warning("a report was refused", problem=str(refused), fields=refused.fields)


def clean(text: str) -> str:
    """Text that any database takes: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
