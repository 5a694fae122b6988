"""A declared service from plain type hints: run(rows: list[Person], limit: float = 0.5) -> list[float].

Each hint is read once, at the start, into a Hint; its `convert` is all that a request runs.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import inspect
import logging
import sys
import types
import typing
from collections import abc
from functools import partial
from typing import Any, Callable, Collection, Mapping, NamedTuple

from keelway_runtime.arguments import json_or_text
from keelway_runtime.conversion import Misfit, array_misfits, as_it_came, described
from keelway_runtime.encode import encode
from keelway_runtime.schema import HEADERS_PARAMETER, DeclaredInput, ServiceSchema
from keelway_runtime.script import parameters

log = logging.getLogger("keelway_runtime.hints")


class Hint(NamedTuple):
    """What a type hint takes: `convert` raises Misfit, `schema` is Swagger 2 and `example` fits it."""

    expected: str
    convert: Callable[[Any], Any]
    schema: dict[str, Any]
    example: Any


def hinted_schema(run: Callable[..., Any]) -> ServiceSchema:
    """The schema that run()'s hints declare; that of its input is free where they tell of the body itself only."""
    reader = _Reader(run)
    taken = [parameter for parameter in parameters(run) if parameter.name != HEADERS_PARAMETER]
    hints = {parameter.name: reader.read_annotation(parameter.annotation) for parameter in taken}
    if reader.unknown:
        log.warning("Hints of run() that convert nothing, its values come as they are: %s", "; ".join(reader.unknown))
    output = _Reader(run).read_annotation(inspect.signature(run).return_annotation)
    described_output = {**(output.schema if output is not FREE else {"type": "object"}), "example": output.example}
    required = [parameter.name for parameter in taken if parameter.default is parameter.empty]
    is_several = len(required) > 1 and any(hint is not FREE for hint in hints.values())
    if not is_several and all(hint in (FREE, TEXT, BYTES) for hint in hints.values()):
        return ServiceSchema(output=described_output, is_body_bytes=BYTES in list(hints.values())[:1])
    hints.update({taker.name: _union([hints[taker.name], NULL]) for taker in taken if taker.default is None})
    return ServiceSchema(
        input={**_object_schema(hints, required), "example": {name: hint.example for name, hint in hints.items()}},
        output=described_output,
        inputs={name: DeclaredInput(hint.convert) for name, hint in hints.items()},
        is_input_declared=True,
    )


class _Reader:
    """Reads the hints of run(); `unknown` are those that nothing is converted to."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self.unknown: list[str] = []
        self._names = getattr(inspect.unwrap(run), "__globals__", {})
        self._classes: dict[type, Hint] = {}

    def read_annotation(self, annotation: Any) -> Hint:
        """What a parameter of this annotation takes; names in it are those of run()'s module."""
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            return self._read(self._resolved(holder, str(annotation), self._names).get("it", Any))
        except TypeError as error:  # [float] is a list and no hint, but some write it
            self.unknown.append(f"{annotation} ({error})")
            return FREE

    def _read(self, hint: Any) -> Hint:
        if hint in SCALARS:
            return SCALARS[hint]
        origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
        if hasattr(origin, "__value__"):  # type Row = list[float], of Python 3.12; NumPy's NDArray is one
            return self._read(origin.__value__[args] if args else origin.__value__)
        if origin is typing.Literal:
            return _choice([(arg, arg) for arg in args])
        if origin not in _COMPOUNDS:
            return self._read_class(origin, args)
        parts = [self._read(arg) for arg in args if arg is not Ellipsis]
        is_fixed = origin is tuple and len(parts) == len(args) > 0
        return _fixed(tuple, parts) if is_fixed else _COMPOUNDS[origin](parts)

    def _read_class(self, kind: Any, args: tuple[Any, ...]) -> Hint:
        name = f"{getattr(kind, '__module__', None)}".partition(".")[0] + "." + getattr(kind, "__name__", str(kind))
        is_class = isinstance(kind, type)
        if is_class and name in _FOREIGN:
            return _FOREIGN[name](args)
        if is_class and issubclass(kind, enum.Enum):
            return _choice([(member.value, member) for member in kind])
        if not is_class or not any(hasattr(kind, mark) for mark in _MEMBERED):
            self.unknown.append(name)
            return FREE
        if kind not in self._classes:
            # A class may hold itself, as a node its children: until it is read, it is looked up only when called.
            later = Hint(name, lambda value: self._classes[kind].convert(value), {"type": "object"}, None)  # noqa: PLW0108
            self._classes[kind] = later
            self._classes[kind] = self._read_members(kind)
        return self._classes[kind]

    def _read_members(self, kind: Any) -> Hint:
        is_tuple = hasattr(kind, "_field_defaults")
        if is_tuple:
            names, optional = kind._fields, kind._field_defaults
        elif hasattr(kind, "__dataclass_fields__"):
            signature = inspect.signature(kind).parameters
            names = [field.name for field in dataclasses.fields(kind) if field.name in signature]
            optional = [name for name in names if signature[name].default is not inspect.Parameter.empty]
        else:  # a TypedDict
            names, optional = kind.__annotations__, kind.__optional_keys__
        resolved = self._resolved(kind, kind.__qualname__)
        hints = {name: self._read(resolved.get(name, Any)) for name in names}
        if is_tuple:
            return _fixed(lambda items: kind(*items), list(hints.values()), len(optional))
        return _members(lambda values: kind(**values), hints, optional)

    def _resolved(self, owner: Any, label: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            return typing.get_type_hints(owner, names)
        except Exception as error:  # noqa: BLE001 - a hint in quotes is any code
            self.unknown.append(f"{label} ({error})")
            return {}


def _scalar(kinds: str, make: Callable[[Any], Any], expected: str, schema: str, example: Any) -> Hint:
    """Of JSON's own types: `kinds` names those taken, `schema` is its type and format."""
    taken = [_JSON_TYPES[kind] for kind in kinds.split()]

    def convert(value: Any) -> Any:
        if type(value) in taken:  # exactly: true is no integer
            try:
                return make(value)
            except (ValueError, ArithmeticError):
                pass
        raise Misfit(expected, described(value))

    return Hint(expected, convert, dict(zip(("type", "format"), schema.split())), example)


def _choice(choices: list[tuple[Any, Any]]) -> Hint:
    """One of these values of JSON, each with what it stands for."""
    values = [value for value, _ in choices]
    expected = "one of " + ", ".join(encode(value).decode() for value in values)

    def convert(value: Any) -> Any:
        for choice, made in choices:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return made
        raise Misfit(expected, described(value))

    return Hint(expected, convert, {"enum": values}, values[0])


def _union(members: list[Hint]) -> Hint:
    expected = " or ".join(member.expected for member in members)
    solid = [member for member in members if member is not NULL] or members[:1]
    schema = solid[0].schema if len(solid) == 1 else {"description": expected}

    def convert(value: Any) -> Any:
        misfits = []
        for member in members:
            try:
                return member.convert(value)
            except Misfit as misfit:
                misfits.append(misfit)
        deepest = max(misfits, key=lambda misfit: len(misfit.path))
        raise deepest if deepest.path else Misfit(expected, described(value))

    nullable = {"x-nullable": True} if len(solid) < len(members) else {}
    return Hint(expected, convert, {**schema, **nullable}, solid[0].example)


def _array(make: Callable[[list[Any]], Any], parts: list[Hint], expected: str = "an array") -> Hint:
    item = parts[0] if parts else FREE
    convert_item = item.convert

    def convert(value: Any) -> Any:
        given, made = _checked(value, list, expected), []
        try:  # around the loop, which may have a million turns, and not in it
            for part in given:
                made.append(convert_item(part))
        except Misfit as misfit:
            raise misfit.within(f"[{len(made)}]") from None
        return _made(make, made, expected)

    example = [] if item.example is None else [item.example]
    return Hint(expected, convert, {"type": "array", "items": item.schema}, example)


def _fixed(make: Callable[[list[Any]], Any], parts: list[Hint], optional: int = 0) -> Hint:
    """An array of so many items, each with a type of its own."""
    least, most = len(parts) - optional, len(parts)
    expected = f"an array of {most}" if not optional else f"an array of {least} to {most}"

    def convert(value: Any) -> Any:
        if not least <= len(_checked(value, list, expected)) <= most:
            raise Misfit(expected, described(value))
        return _made(make, [_at("[%s]", index, parts[index], given) for index, given in enumerate(value)], expected)

    items = parts[0].schema if all(part.schema == parts[0].schema for part in parts) else {}
    schema = {"type": "array", "items": items, "minItems": least, "maxItems": most}
    return Hint(expected, convert, schema, [part.example for part in parts])


def _mapping(parts: list[Hint]) -> Hint:
    key, item = parts or (FREE, FREE)
    as_key = as_it_came if key in (FREE, TEXT) else json_or_text

    def convert(value: Any) -> dict[Any, Any]:
        pairs = _checked(value, dict, "an object").items()
        return {_at(".%s", name, key, as_key(name)): _at(".%s", name, item, given) for name, given in pairs}

    return Hint("an object", convert, {"type": "object", "additionalProperties": item.schema}, {})


def _members(make: Callable[[Any], Any], hints: Mapping[str, Hint], optional: Collection[str]) -> Hint:
    """An object with these members and no other: a misspelt one would silently be its default."""
    required = [name for name in hints if name not in optional]
    expected = "an object with " + ", ".join(name if name in required else f"{name} (optional)" for name in hints)

    def convert(value: Any) -> Any:
        if not set(required) <= _checked(value, dict, expected).keys() <= hints.keys():
            raise Misfit(expected, ", ".join(value)[:200] or "none of them")
        return _made(make, {name: _at(".%s", name, hints[name], given) for name, given in value.items()}, expected)

    schema = {**_object_schema(hints, required), "additionalProperties": False}
    return Hint(expected, convert, schema, {name: hint.example for name, hint in hints.items()})


def _object_schema(hints: Mapping[str, Hint], required: list[str]) -> dict[str, Any]:
    properties = {name: hint.schema for name, hint in hints.items()}
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _at(step: str, key: Any, hint: Hint, value: Any) -> Any:
    try:
        return hint.convert(value)
    except Misfit as misfit:
        raise misfit.within(step % key) from None


def _checked(value: Any, kind: type, expected: str) -> Any:
    if type(value) is not kind:
        raise Misfit(expected, described(value))
    return value


def _made(make: Callable[[Any], Any], parts: Any, expected: str) -> Any:
    """What `make` makes of the parts; what it refuses, as a dataclass may, is the caller's mistake."""
    try:
        return make(parts)
    except (TypeError, ValueError) as error:
        raise Misfit(f"{expected} ({str(error)[:200]})") from error


def _numpy_array(args: tuple[Any, ...]) -> Hint:
    numpy = sys.modules["numpy"]
    [scalar] = typing.get_args(args[1]) if len(args) > 1 else [None]
    dtype = numpy.dtype(scalar) if scalar in numpy.sctypeDict.values() else None

    def convert(value: Any) -> Any:
        try:
            made = numpy.asarray(_checked(value, list, "an array"), dtype)
            return made if made.dtype.kind != "O" else made.astype(float)  # null is nan
        except (TypeError, ValueError, OverflowError) as error:
            found = array_misfits(value, _shape_of_first(value), dtype or numpy.dtype(float))
            raise next(found, Misfit(f"an array ({str(error)[:200]})")) from None

    return Hint("an array", convert, {"type": "array", "items": {}}, [[1.0, 2.0]])


def _shape_of_first(value: Any) -> tuple[int, ...]:
    """The shape of an array all of whose items are like their first; NumPy has at most 64 axes."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < 64:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _pandas_frame(args: tuple[Any, ...]) -> Hint:
    frame, label = sys.modules["pandas"].DataFrame, _union([TEXT, SCALARS[int], SCALARS[float]])
    labels, cells = _array(list, [label]), _array(list, [_array(list, [])])
    rows = _array(frame, [_mapping([])], "an array of objects, one a row")
    parts = {"columns": labels, "data": cells, "index": labels}
    split = _members(lambda values: frame(**values), parts, optional=["index"])
    return _union([rows, split])._replace(schema=rows.schema, example=[{"column": 1.5}])


def _pandas_series(args: tuple[Any, ...]) -> Hint:
    return _array(sys.modules["pandas"].Series, [])


def _whole(value: float) -> int:
    # orjson reads what exceeds 64 bits as a float, which has lost digits.
    if value != int(value) or (isinstance(value, float) and abs(value) > 2**53):
        raise ValueError
    return int(value)


def _finite(value: Any) -> decimal.Decimal:
    made = decimal.Decimal(str(value))
    if not made.is_finite():
        raise ValueError
    return made


def _of_iso(kind: Any, value: str) -> Any:
    return kind.fromisoformat(value.replace("Z", "+00:00"))  # before 3.11 it knows no Z


def _seconds(value: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=value)


_JSON_TYPES = {"text": str, "integer": int, "number": float, "boolean": bool, "null": type(None)}
_WHEN = "2024-01-31T12:00:00Z"
FREE = Hint("any value", as_it_came, {}, {})
NULL = _scalar("null", as_it_came, "null", "", None)
TEXT = _scalar("text", as_it_came, "a string", "string", "text")
BYTES = _scalar("text", partial(base64.b64decode, validate=True), "a base64 string", "string byte", "Ynl0ZXM=")
SCALARS: dict[Any, Hint] = {
    Any: FREE,
    object: FREE,
    inspect.Parameter.empty: FREE,
    type(None): NULL,
    str: TEXT,
    bytes: BYTES,
    bool: _scalar("boolean", as_it_came, "true or false", "boolean", True),
    int: _scalar("integer number", _whole, "an integer", "integer int64", 1),
    float: _scalar("integer number", float, "a number", "number double", 1.5),
    decimal.Decimal: _scalar("text integer number", _finite, "a decimal number as a string", "string decimal", "1.50"),
    datetime.date: _scalar("text", partial(_of_iso, datetime.date), "a date as YYYY-MM-DD", "string date", _WHEN[:10]),
    datetime.time: _scalar("text", partial(_of_iso, datetime.time), "a time as hh:mm:ss", "string time", "12:00:00"),
    datetime.datetime: _scalar(
        "text", partial(_of_iso, datetime.datetime), "a date and time as YYYY-MM-DDThh:mm:ss", "string date-time", _WHEN
    ),
    datetime.timedelta: _scalar("integer number", _seconds, "a number of seconds", "number double", 60.0),
}
_COMPOUNDS: dict[Any, Callable[[list[Hint]], Hint]] = {
    **dict.fromkeys((list, abc.Iterable, abc.Collection, abc.Sequence, abc.MutableSequence), partial(_array, list)),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), partial(_array, set)),
    frozenset: partial(_array, frozenset),
    tuple: partial(_array, tuple),
    **dict.fromkeys((dict, abc.Mapping, abc.MutableMapping), _mapping),
    **dict.fromkeys((typing.Union, getattr(types, "UnionType", typing.Union)), _union),
}
_MEMBERED = ("__dataclass_fields__", "__optional_keys__", "_field_defaults")
_FOREIGN = {"numpy.ndarray": _numpy_array, "pandas.DataFrame": _pandas_frame, "pandas.Series": _pandas_series}
