"""The server's log: one JSON object a line on stdout, each with the request it belongs to."""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import orjson

# Set for each request; follows it into the scoring thread, so that the user's own logging is attributed too.
request_id: ContextVar[str] = ContextVar("keelway_request_id", default="")

_OURS = str(Path(__file__).parent)


def event(name: str, **fields: Any) -> None:
    """Write one event."""
    _write({"event": name, **fields})


def configure() -> None:
    """Send the user's logging to stdout as events too, and keep no complete line in a buffer."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(EventHandler())


def flush() -> None:
    """Write out what print() left unfinished; needed before os._exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def user_traceback(error: BaseException) -> str:
    """The error as Python prints it, from the first frame that is neither ours nor the import system's."""
    frames = error.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


class EventHandler(logging.Handler):
    """Writes records of the logging module as events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback if it has one."""
        fields = {"event": "log", "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = user_traceback(record.exc_info[1])
        _write(fields)


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib"))


def _write(fields: dict[str, Any], stream: TextIO | None = None) -> None:
    line = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **fields}
    if request_id.get():
        line["request_id"] = request_id.get()
    # One write a line: two threads must not interleave halves.
    (stream or sys.stdout).write(orjson.dumps(line, default=str).decode("utf-8", "replace") + "\n")
