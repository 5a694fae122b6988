"""A thread that fails ends its process: a process that lost one works on in part, and nobody sees which part."""

from __future__ import annotations

import logging
import os
import threading

import structlog

EXIT_CRASHED = 1

logger = structlog.get_logger(__name__)


def end_when_a_thread_fails() -> None:
    """From now on an exception that nobody foresaw, in any thread, is logged and ends this process.

    Whoever started it starts it again, and a new process takes up what is there.
    """
    threading.excepthook = _end


def _end(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is SystemExit or failed.exc_value is None:
        return
    error = (failed.exc_type, failed.exc_value, failed.exc_traceback)
    name = failed.thread.name if failed.thread else "?"
    try:
        logger.error("a thread failed; the process ends to be started again", thread=name, exc_info=error)
        logging.shutdown()
    finally:
        os._exit(EXIT_CRASHED)
