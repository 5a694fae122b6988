"""The server's log: one JSON object a line on stdout, each with the request it belongs to.

What the user's code logs, or prints for a request, becomes such lines as well, so that it can be told for which.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
import time
import traceback
from contextvars import ContextVar
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

import orjson

# Set for each request; follows it into tasks and, by hand, into threads, so that the user's own lines are attributed.
request_id: ContextVar[str] = ContextVar("keelway_request_id", default="")

PENDING_MAX, LINE_MAX = 8 * 1024 * 1024, 64 * 1024
GATHER_S, FLUSH_S = 0.01, 1.0
_OURS = str(Path(__file__).parent)
_HEADER = "Traceback (most recent call last):\n"


def event(name: str, **fields: Any) -> None:
    """Write one event."""
    line = {"time": _now(), "event": name, **fields}
    if request_id.get():
        line["request_id"] = request_id.get()
    _write(_line(line) + "\n")  # one write: two threads must not interleave halves


def request(id: str, method: str, status: int, ms: float) -> None:
    """Write the event of an answered scoring request: by hand, as there are so many of them."""
    quoted = orjson.dumps(id).decode()
    _write(
        f'{{"time":"{_now()}","event":"request","method":"{method}","path":"/score","status":{status},"ms":{ms:.3f},'
        f'"request_id":{quoted}}}\n'
    )


def plain(text: str) -> None:
    """Write text for people, as it is."""
    _write(text + "\n")


def configure(*, is_worker: bool = False) -> None:
    """In a worker: have all that the user's code writes come out as events. In the front: never wait for a reader."""
    global _write  # noqa: PLW0603 - how lines leave this process is decided once
    if not is_worker:
        _write = _Writer(_write).put
        return
    sys.stdout, sys.stderr = _Printed(sys.stdout, "stdout"), _Printed(sys.stderr, "stderr")
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(EventHandler())


def flush() -> None:
    """Write out what is unfinished; needed before os._exit."""
    writer = getattr(_write, "__self__", None)
    if isinstance(writer, _Writer):
        writer.flush()  # only its own thread touches stdout: it may hold the stream's lock, stuck on who does not read
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the script may have replaced or closed them
            getattr(stream, "close_line", stream.flush)()
            stream.flush()


def user_traceback(error: BaseException) -> str:
    """The error as Python prints it, from the first frame that is neither ours nor the import system's.

    A script that does not parse has no frame of its own, only a place: it begins as every other traceback, to be found.
    """
    frames = error.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return text if text.startswith(_HEADER) else _HEADER + text


class EventHandler(logging.Handler):
    """Writes records of the logging module as events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback if it has one."""
        try:
            fields = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        except (TypeError, ValueError):  # a format that does not fit its arguments must not fail the user's request
            self.handleError(record)
            return
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = user_traceback(record.exc_info[1])
        event("log", **fields)


class _Printed(io.TextIOBase):
    """stdout or stderr of the user's code: each line an event, if it belongs to a request."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name = stream, name
        self._begun = threading.local()  # two threads must not finish each other's lines
        self.buffer = stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of what goes around this into the buffer."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Take text; its complete lines are written."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        if len(rest) > LINE_MAX:
            lines, rest = [*lines, rest], ""
        self._begun.text = rest
        for line in lines:
            self._tell(line)
        return len(text)

    def flush(self) -> None:
        """Write what was put directly into the buffer. A line that is not complete stays."""
        self._stream.flush()

    def close_line(self) -> None:
        """Write a line that nobody completes any more."""
        if getattr(self._begun, "text", ""):
            self.write("\n")

    def fileno(self) -> int:
        """The descriptor below, for programs that the script starts."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    def _tell(self, line: str) -> None:
        if not request_id.get():  # while it loads there is nothing to attribute, and people read it
            plain(line)
        elif line:
            cut = f"... ({len(line)} characters)" if len(line) > LINE_MAX else ""
            event("print", stream=self._name, message=line[:LINE_MAX] + cut)


class _Writer:
    """Writes from a thread of its own: whoever reads stdout may be slow, and probes are answered all the same."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._pending: list[str] = []
        self._size = 0
        self._lost = 0
        self._has_some, self._is_idle = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def put(self, line: str) -> None:
        """Have a line written; dropped and counted while the reader does not keep up."""
        if self._size > PENDING_MAX:
            self._lost += 1
            return
        self._pending.append(line)
        self._size += len(line)
        if not self._has_some.is_set():
            self._is_idle.clear()
            self._has_some.set()

    def flush(self) -> None:
        """Wait until all is written, but not for ever."""
        if self._pending or not self._is_idle.is_set():
            self._is_idle.wait(FLUSH_S)

    def _run(self) -> None:
        self._is_idle.set()
        while True:
            self._has_some.wait()
            time.sleep(GATHER_S)
            self._has_some.clear()
            lines, self._pending, self._size = self._pending, [], 0
            lost, self._lost = self._lost, 0
            self._write("".join(lines))
            if lost:
                self._write(_line({"event": "log lines lost", "count": lost}) + "\n")
            if not self._pending:
                self._is_idle.set()


def _now() -> str:
    """The time in UTC, to the millisecond."""
    second, fraction_ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{_to_the_second(second)}.{fraction_ns // 1_000_000:03}+00:00"


@lru_cache(1)
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib"))


def _line(fields: dict[str, Any]) -> str:
    try:
        return orjson.dumps(fields, default=str).decode()
    except orjson.JSONEncodeError:  # text that is not Unicode, as an odd file name in an error is
        return json.dumps(fields, default=str)


def _to_stdout(text: str) -> None:
    stream = sys.__stdout__
    assert stream is not None
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _discard_output(stream)


_write: Callable[[str], None] = _to_stdout


def _discard_output(stream: Any) -> None:
    """Send stdout nowhere: replicas outlive the process that started them, and it may have been the reader."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
