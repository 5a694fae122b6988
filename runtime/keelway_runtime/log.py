"""The server's log: one JSON object a line on stdout, each with the request it belongs to."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import orjson

# Set for each request; follows it into the scoring thread, so that the user's own logging is attributed too.
request_id: ContextVar[str] = ContextVar("keelway_request_id", default="")

_OURS = str(Path(__file__).parent)
_HEADER = "Traceback (most recent call last):\n"


def event(name: str, **fields: Any) -> None:
    """Write one event."""
    line = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": name, **fields}
    if request_id.get():
        line["request_id"] = request_id.get()
    try:
        sys.stdout.write(_line(line) + "\n")  # one write: two threads must not interleave halves
    except BrokenPipeError:
        _discard_output()


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


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib"))


def _line(fields: dict[str, Any]) -> str:
    try:
        return orjson.dumps(fields, default=str).decode()
    except orjson.JSONEncodeError:  # text that is not Unicode, as an odd file name in an error is
        return json.dumps(fields, default=str)


def _discard_output() -> None:
    """Send stdout nowhere: replicas outlive the process that started them, and it may have been the reader."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
