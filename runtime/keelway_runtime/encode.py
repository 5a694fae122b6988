"""JSON of whatever run() returned.

NaN, NaT, NA and infinities become null: JSON has no such numbers, and strict clients fail on them. Decimal becomes a
string, which keeps its digits; bytes become base64; a frame its records, a series its values; timedelta its seconds.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import os
from typing import Any

import orjson

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def encode(value: Any) -> bytes:
    """The value as UTF-8 JSON. Raises TypeError for what has no JSON form."""
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS)
    except TypeError:
        return _encode_widely(value)


def _plain(value: Any) -> Any:
    """One step from an object towards JSON; orjson calls this again for what comes back."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.date):  # pandas' timestamps; orjson writes the standard library's by itself
        return None if _is_missing(value) else value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else _plain_by_shape(value)


def _plain_by_shape(value: Any) -> Any:
    """Frames, series, arrays and tensors, told by what they can do: their packages need not be installed."""
    columns = getattr(value, "columns", None)
    if columns is not None and hasattr(value, "to_dict"):
        if not columns.is_unique:
            raise TypeError("a frame with two columns of one name has no records")
        return value.to_dict("records")
    if hasattr(value, "tolist"):
        return value.tolist()
    if _is_missing(value):
        return None
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no JSON form")


def _is_missing(value: Any) -> bool:
    """Whether this is one of pandas' marks for a missing value."""
    return type(value).__name__ in ("NAType", "NaTType")


def _encode_widely(value: Any) -> bytes:
    try:
        return json.dumps(_widely(value)).encode()
    except orjson.JSONEncodeError as error:
        # orjson only names the type; why it has no JSON form is in the cause.
        raise error.__cause__ or error from None


def _widely(value: Any) -> Any:
    """Plain Python for what orjson refuses and JSON allows: NumPy's numbers as keys, integers beyond 64 bits."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key.item() if hasattr(key, "item") else key: _widely(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_widely(item) for item in value]
    return orjson.loads(orjson.dumps(value, default=_plain, option=_OPTIONS))
