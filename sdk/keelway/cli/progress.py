"""Progress of long work, on stderr: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from keelway.cli.output import note, size, visible

if TYPE_CHECKING:
    from datetime import datetime

    from rich.progress import Progress, TaskID

    from keelway.contracts.operations import Operation

_LINE_EVERY_S = 5.0


class Transfer:
    """A progress callback for uploads and downloads: bytes, rate and time left."""

    def __init__(self) -> None:
        self._lines = _Lines() if not sys.stderr.isatty() else None
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._lines is None:
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """`done` of `total` bytes of a phase. One of no bytes (all of them are there already) is not shown."""
        if not total:
            return
        if self._bars is None:
            (self._lines or _Lines()).show(phase, done, total)
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total)
        self._bars.update(self._tasks[phase], completed=done)


class _Lines:
    """A line when a phase ends, and every few seconds until then."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._shown: dict[str, float] = {}
        self._ended: set[str] = set()

    def show(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        began = self._began.setdefault(phase, now)
        is_due = now - self._shown.setdefault(phase, now) >= _LINE_EVERY_S
        is_end = done >= total and phase not in self._ended
        if not is_due and not is_end:
            return
        self._shown[phase] = now
        rate = done / (now - began) if now > began else 0
        left = f", {(total - done) / rate:.0f} s left" if rate and not is_end else ""
        note(f"{phase}: {size(done)} of {size(total)} ({size(rate)}/s{left})")
        if is_end:
            self._ended.add(phase)


class Rounds:
    """How far work is that is asked for in rounds: one line on a terminal, a line for each round elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> Self:
        from rich.console import Console  # noqa: PLC0415  (slow to import)

        console = Console(stderr=True)
        self._status = console.status(self._what) if console.is_terminal else None
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, text: str) -> None:
        """A round ended, and there are more to come."""
        if self._status:
            self._status.update(_literal(text))
        else:
            note(text)


class Steps:
    """Steps of an operation, each shown once with the time it took; a spinner names the running one."""

    def __init__(self) -> None:
        self._shown: set[tuple[str, datetime]] = set()

    def __enter__(self) -> Self:
        from rich.console import Console  # noqa: PLC0415  (slow to import)

        console = Console(stderr=True)
        self._console = console
        self._status = console.status("waiting for a worker") if console.is_terminal else None
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, operation: Operation) -> None:
        """Show what is new in this state of the operation."""
        for step in operation.steps:
            key = (step.name, step.started_at)
            if step.ended_at is None and self._status:
                self._status.update(_literal(step.name))
            if step.ended_at is not None and key not in self._shown:
                self._shown.add(key)
                self._line(step.name, (step.ended_at - step.started_at).total_seconds())

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step that this process takes itself."""
        if self._status:
            self._status.update(_literal(name))
        began = time.monotonic()
        yield
        self._line(name, time.monotonic() - began)

    def _line(self, name: str, took_s: float) -> None:
        self._console.print(f"{took_s:7.1f} s  {visible(name)}", markup=False, highlight=False, soft_wrap=True)


def _literal(text: str) -> str:
    from rich.markup import escape  # noqa: PLC0415  (slow to import)

    return escape(visible(text))


def _bars() -> Progress:
    from rich import progress  # noqa: PLC0415  (slow to import)
    from rich.console import Console  # noqa: PLC0415

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
