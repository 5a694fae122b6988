"""Texts from workers and scripts, made fit for Postgres.

A script may print anything. A report that is refused for one character of its log tail would leave an operation without
an end, or a node without a heartbeat.
"""

from __future__ import annotations

import math
from typing import TypeVar

Value = TypeVar("Value")


def storable(value: Value) -> Value:
    """The same without what JSONB and text cannot hold: NUL, half characters, NaN and infinities."""
    return _storable(value)  # pyright: ignore[reportReturnType] - the shape stays as it is


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
