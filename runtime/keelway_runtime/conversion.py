"""From parsed JSON to the types an entry script declared with inference_schema.

The types convert by their own deserialize_input. Only when one refuses is the payload searched for the first place
that does not fit, so that a good request pays nothing for a good message.
"""

from __future__ import annotations

import datetime
import sys
from typing import Any, Iterator


class Misfit(Exception):  # noqa: N818 - a caller's mistake, it ends as BadInput
    """A value does not fit; the path to it grows while this travels outwards."""

    def __init__(self, expected: str, got: str | None = None, path: str = "") -> None:
        super().__init__(expected)
        self.expected, self.got, self.path = expected, got, path

    def within(self, step: str) -> Misfit:
        """The same misfit, seen from one level further out."""
        return Misfit(self.expected, self.got, step + self.path)


def as_it_came(value: Any) -> Any:
    """The conversion of what has no declared type."""
    return value


def described(value: Any) -> str:
    """A JSON value in a few words, as an error message names it."""
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"the number {value}"


def convert(value: Any, kind: Any) -> Any:
    """The JSON value as the type of inference_schema that was declared for it. Raises Misfit."""
    if kind.sample_data_type is dict:
        return _convert_members(value, kind.sample_data_type_map)
    if kind.sample_data_type in (list, tuple):
        return _convert_items(value, kind.sample_data_type_list)
    if isinstance(value, kind.sample_data_type):
        return value
    if kind.sample_data_type is datetime.date:
        return _convert_date(value)
    if (array := _plain_array(value, kind)) is not None:
        return array
    try:
        result = kind.deserialize_input(value)
    except Exception as error:  # it raises bare ones; only conversion happens here, no user code
        raise _first_misfit(value, kind, error) from error
    return _with_declared_columns(result, kind)


def _plain_array(value: Any, kind: Any) -> Any:
    """What deserialize_input gives for an array of numbers, which it asks about its type row by row; None else."""
    if type(kind).__name__ != "NumpyParameterType" or not kind.enforce_column_type or not isinstance(value, list):
        return None
    sample = kind.sample_input
    if sample.dtype.kind not in "biuf":
        return None
    try:
        array = sys.modules["numpy"].array(value, sample.dtype)
    except (ValueError, TypeError, OverflowError):
        return None
    is_shaped = array.ndim == sample.ndim and array.shape[1:] == sample.shape[1:]
    return array if is_shaped or not kind.enforce_shape else None


def _convert_members(value: Any, kinds: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Misfit("an object", described(value))
    return {key: _at(f".{key}", item, kinds[key]) if key in kinds else item for key, item in value.items()}


def _convert_items(value: Any, kinds: list[Any]) -> list[Any]:
    if not isinstance(value, (list, tuple)):  # JSON has no tuples, a default may be one
        raise Misfit("an array", described(value))
    return [_at(f"[{index}]", item, kinds[0]) for index, item in enumerate(value)] if kinds else list(value)


def _at(step: str, value: Any, kind: Any) -> Any:
    try:
        return convert(value, kind)
    except Misfit as misfit:
        raise misfit.within(step) from None


def _convert_date(value: Any) -> datetime.date:
    # inference-schema 1.8 calls date.strptime, which no Python before 3.14 has.
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise Misfit("a date as YYYY-MM-DD", described(value)) from None


def _with_declared_columns(result: Any, kind: Any) -> Any:
    """A frame with its sample's columns in its sample's order: keys of a JSON object have none.

    inference-schema counts columns but lets any names pass. Arrays and scalars are given back as they are.
    """
    if not _is_frame(kind) or not kind.enforce_shape or kind.orient == "values":
        return result
    columns = kind.sample_input.columns
    if set(map(str, result.columns)) != set(map(str, columns)):
        raise Misfit(f"the columns {_names(columns)}", _names(result.columns))
    return result[list(columns)] if set(result.columns) == set(columns) else result


def _is_frame(kind: Any) -> bool:
    """Whether this is a PandasParameterType: Spark's has columns too, but no orient."""
    return hasattr(kind, "orient")


def _first_misfit(value: Any, kind: Any, error: Exception) -> Misfit:
    sample = kind.sample_input
    if _is_frame(kind):
        found = _frame_misfits(value, kind)
        whole = f"a frame ({kind.orient}) with the columns {_names(sample.columns)}"
    elif hasattr(sample, "dtype"):
        # Records and time spans have a notation of their own, which one scalar cannot be tried against.
        is_searched = kind.enforce_shape and sample.dtype.kind not in "mV"
        found = array_misfits(value, sample.shape, sample.dtype) if is_searched else iter(())
        whole = f"an array of {sample.dtype} of shape {_shape(sample.shape)}"
    elif hasattr(sample, "columns"):  # Spark's
        return Misfit(f"an array of objects with {_names(sample.columns)} ({str(error)[:200]})", described(value))
    else:
        expected = _STANDARD_TYPES.get(kind.sample_data_type) or kind.sample_data_type.__name__
        return Misfit(expected, described(value))
    return next(found, Misfit(f"{whole} ({str(error)[:200]})"))


_STANDARD_TYPES: dict[type, str] = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    bytes: "a base64 string",
    bytearray: "a base64 string",
    datetime.datetime: "a date and time as YYYY-MM-DDThh:mm:ss",
    datetime.time: "a time as hh:mm:ss",
}


def array_misfits(value: Any, shape: tuple[int, ...], dtype: Any, depth: int = 0) -> Iterator[Misfit]:
    """Where a nested list differs from an array of this shape; the first axis may have any length."""
    if depth == len(shape):
        if isinstance(value, list) or not _is_scalar_of(dtype, value):
            yield Misfit(f"one {dtype}", described(value))
        return
    if not isinstance(value, list):
        yield Misfit(f"an array of shape {_shape(shape)}", described(value))
        return
    if depth and len(value) != shape[depth]:
        yield Misfit(f"{shape[depth]} items (an array of shape {_shape(shape)})", str(len(value)))
        return
    if not depth and not value and len(shape) > 1:
        yield Misfit(f"at least one item (an array of shape {_shape(shape)})", "none")
    for index, item in enumerate(value):
        for misfit in array_misfits(item, shape, dtype, depth + 1):
            yield misfit.within(f"[{index}]")


def _frame_misfits(value: Any, kind: Any) -> Iterator[Misfit]:
    """Where a frame's JSON differs from its sample; row by row for orient records."""
    if not isinstance(value, (list, dict)):
        yield Misfit(f"a frame ({kind.orient}): an array or an object", described(value))
        return
    if kind.orient != "records":
        return
    if not isinstance(value, list):
        yield Misfit("an array of objects, one a row", described(value))
        return
    for index, row in enumerate(value):
        for misfit in _row_misfits(row, kind):
            yield misfit.within(f"[{index}]")


def _row_misfits(row: Any, kind: Any) -> Iterator[Misfit]:
    columns = [str(column) for column in kind.sample_input.columns]
    if not isinstance(row, dict):
        yield Misfit(f"an object with {_names(columns)}", described(row))
        return
    if kind.enforce_shape and set(row) != set(columns):
        yield Misfit(f"the columns {_names(columns)}", _names(row))
    if not kind.enforce_column_type:
        return
    for column, declared in kind.sample_input.items():
        if str(column) in row and not _is_item_of(declared, row[str(column)]):
            yield Misfit(str(declared.dtype), described(row[str(column)]), path=f".{column}")


def _is_item_of(series: Any, value: Any) -> bool:
    try:
        type(series)([value]).astype(series.dtype)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_scalar_of(dtype: Any, value: Any) -> bool:
    try:
        dtype.type("nan" if value is None else value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(["any", *map(str, shape[1:])])


def _names(columns: Any) -> str:
    return ", ".join(str(column) for column in list(columns)[:30]) or "none"
