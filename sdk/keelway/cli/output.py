"""What commands print: tables, JSON and errors."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from keelway.errors import KeelwayError, OperationFailed, ProblemError

_UNIT = 1024
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str, *, keep: str = "") -> str:
    """Text without power over the terminal: what is not seen there (control, format and the like) is escaped.

    Descriptions, tags, names and errors are other people's: one of them could clear the screen, or say what it is not.
    """
    if text.isprintable():
        return text
    return "".join(_escaped(char) if char not in keep else char for char in text)


def as_json_text(document: Any) -> str:
    """Contracts, and lists of them, as indented JSON."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=_plain)
    # JSON leaves some of what a terminal obeys as it is. All of it stands in strings, where an escape is the same.
    return re.sub(r"[^\x20-\x7e\n]", lambda found: _json_escaped(found[0]), text)


def columns(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of aligned columns, never cut: it is read by `grep` and `awk` as well."""
    if not rows:
        return "(none)"
    cells = [[visible(str(cell)) for cell in row] for row in [headers, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def fields(**values: object) -> str:
    """One line for each value that is not empty; more lines of a value stand below its first."""
    shown = {key.replace("_", " "): value for key, value in values.items() if value not in (None, "", {}, [])}
    width = max(map(len, shown), default=0)
    below = "\n" + " " * (width + 2)
    return "\n".join(
        f"{key.ljust(width)}  {visible(_text(value), keep=chr(10)).replace(chr(10), below)}"
        for key, value in shown.items()
    )


def section(title: str, *parts: str) -> str:
    """Parts below a title; nothing when all of them are empty."""
    shown = [textwrap.indent(part, "  ") for part in parts if part]
    return "\n".join([title, "\n\n".join(shown)]) if shown else ""


def answer(text: str) -> None:
    """What a command answers people."""
    print(visible(text, keep="\n\t"))


def note(text: str) -> None:
    """A line beside the answer: progress, hints. Never on stdout."""
    print(visible(text, keep="\n"), file=sys.stderr, flush=True)


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
        return ", ".join(visible(f"{key}={item}") for key, item in value.items())
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(visible(str(item)) for item in value)
    return as_json_text(value) if isinstance(value, list) else str(value)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSEEN else char


def _json_escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if unicodedata.category(char) in _UNSEEN else char


def _plain(value: object) -> Any:
    # By its method, not its class: pydantic is slow to import, and `keelway --help` has no contract to print.
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump else str(value)
