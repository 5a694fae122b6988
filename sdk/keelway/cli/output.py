"""What commands print: tables, JSON and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from keelway.errors import KeelwayError, OperationFailed, ProblemError

_UNIT = 1024


def as_json_text(document: Any) -> str:
    """Contracts, and lists of them, as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=_plain)


def columns(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of aligned columns, never cut: it is read by `grep` and `awk` as well."""
    if not rows:
        return "(none)"
    cells = [[str(cell) for cell in row] for row in [headers, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def fields(**values: object) -> str:
    """One line for each value that is not empty."""
    shown = {key.replace("_", " "): value for key, value in values.items() if value not in (None, "", {}, [])}
    width = max(map(len, shown), default=0)
    return "\n".join(f"{key.ljust(width)}  {_text(value)}" for key, value in shown.items())


def note(text: str) -> None:
    """A line beside the answer: progress, hints. Never on stdout."""
    print(text, file=sys.stderr, flush=True)


def size(size_bytes: float) -> str:
    """Bytes for people: 12 B, 3.4 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < _UNIT:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= _UNIT
    return f"{size_bytes:.1f} TiB"


def when(moment: datetime | None) -> str:
    """A time in the reader's own zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def seconds(begin: datetime, end: datetime | None) -> str:
    """How long something took, or takes so far."""
    return f"{((end or datetime.now(UTC)) - begin).total_seconds():.1f} s"


def print_error(error: KeelwayError | OSError, *, as_json: bool) -> None:
    """An error on stderr: a problem-like JSON document, or its title, detail and fields as lines."""
    note(as_json_text(_problem(error)) if as_json else _readable(error))


def _readable(error: Exception) -> str:
    lines = [f"error: {error}"]
    if isinstance(error, ProblemError):
        lines += [f"  {key}: {_text(value)}" for key, value in error.fields.items()]
        if error.request_id and error.status >= 500:
            lines.append(f"  request id: {error.request_id}")
    return "\n".join(lines)


def _problem(error: Exception) -> dict[str, Any]:
    if isinstance(error, ProblemError):
        known = {"type": error.type, "title": error.title, "status": error.status, "detail": error.detail}
        return {**error.fields, **known, "request_id": error.request_id}
    name = type(error).__name__
    if isinstance(error, OperationFailed):
        own = {
            "code": error.code,
            "details": error.details,
            "log_tail": error.log_tail,
            "operation": error.operation.id,
        }
        return {"type": name, "title": "The operation failed", "detail": error.message, **own}
    return {"type": name, "title": "The command failed", "detail": str(error)}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(map(str, value))
    return as_json_text(value) if isinstance(value, list) else str(value)


def _plain(value: object) -> Any:
    # By its method, not its class: pydantic is slow to import, and `keelway --help` has no contract to print.
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump else str(value)
