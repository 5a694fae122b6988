"""What our own processes logged that no fault from outside excuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.support.stack import Stack

PROCESSES = ("api", "worker", "supervisor")
EXCUSED = 503  # something the API needs is away


def mistakes(stack: Stack) -> list[str]:
    """Answers of 500, errors and tracebacks, in the whole life of the stack."""
    return [f"{name}: {line[:500]}" for name in PROCESSES for line in _lines(stack, name) if _is_mistake(line)]


def _lines(stack: Stack, name: str) -> Iterator[str]:
    yield from stack.layout.log(name).read_text(errors="replace").splitlines()


def _is_mistake(line: str) -> bool:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return line.startswith("Traceback")
    if str(event.get("logger", "")).startswith("celery"):
        return False  # it calls a Redis that is away an error
    status = event.get("status") or 0
    return event.get("level") == "error" or (status >= 500 and status != EXCUSED)
