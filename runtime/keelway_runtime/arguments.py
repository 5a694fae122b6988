"""What run() is called with, from what the caller sent.

One class for each way a script can take its input; each binds a Call to keyword arguments or raises a Refusal.
That of @rawhttp stands in keelway_runtime.rawhttp.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, NamedTuple, Protocol
from urllib.parse import parse_qs

import orjson

from keelway_runtime.conversion import described
from keelway_runtime.refusal import Refusal
from keelway_runtime.schema import HEADERS_PARAMETER, DeclaredInput, ServiceSchema, is_required
from keelway_runtime.script import ScriptError, parameters

JSON = "application/json"


class Headers(dict):
    """Request headers under the names scripts know (Content-Type); looked up in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.title())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.title())

    def get(self, name: str, default: Any = None) -> Any:
        """The header's value, or the default."""
        return super().get(name.title(), default)


class Call(NamedTuple):
    """One scoring request, read completely. Header names are in lower case."""

    method: str
    query: bytes
    headers: Mapping[str, str]
    body: bytes
    path: str = "/score"


class Arguments(Protocol):
    """A way to call run(). `needs_headers`: others than the content type."""

    needs_headers: bool

    def bind(self, call: Call) -> dict[str, Any]:
        """Keyword arguments for run(). Raises Refusal when the request does not fit."""
        ...


def arguments_for(run: Callable[..., Any], schema: ServiceSchema) -> Arguments:
    """How to call this run(). Raises ScriptError when its parameters leave that open."""
    if schema.is_input_declared:
        return DeclaredArguments(run, schema.inputs)
    return BytesArguments(run) if schema.is_body_bytes else RawArguments(run)


class RawArguments:
    """Of an undeclared run(): the body as text, for GET a JSON object of the query parameters."""

    def __init__(self, run: Callable[..., Any]) -> None:
        names = [parameter for parameter in parameters(run) if parameter.name != HEADERS_PARAMETER]
        required = [parameter.name for parameter in names if parameter.default is parameter.empty]
        if not names or len(required) > 1:
            found = ", ".join(required) or "none"
            raise ScriptError(f"run() without @input_schema or type hints takes one argument; it has {found}")
        self._name = names[0].name
        self.needs_headers = self._passes_headers = len(names) < len(parameters(run))

    def bind(self, call: Call) -> dict[str, Any]:
        """The body whatever its content type says, so that a form is never emptied."""
        bound: dict[str, Any] = {self._name: self._given(call)}
        if self._passes_headers:
            bound[HEADERS_PARAMETER] = headers_of(call)
        return bound

    def _given(self, call: Call) -> Any:
        if call.method == "GET":
            return orjson.dumps(query_parameters(call.query)).decode()
        try:
            return call.body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refusal(400, f"The body is not UTF-8: {error.reason} at byte {error.start}") from None


class BytesArguments(RawArguments):
    """Of a run(body: bytes): the body as it came, for GET the same JSON as bytes."""

    def _given(self, call: Call) -> bytes:
        return call.body if call.method != "GET" else super()._given(call).encode()


class DeclaredArguments:
    """Of a declared run(): members of the JSON object, by name, as the types declared for them."""

    def __init__(self, run: Callable[..., Any], inputs: Mapping[str, DeclaredInput]) -> None:
        self._parameters = [parameter for parameter in parameters(run) if parameter.name != HEADERS_PARAMETER]
        self.needs_headers = len(self._parameters) < len(parameters(run))
        self._inputs = inputs
        self._required = {
            parameter.name
            for parameter in self._parameters
            if parameter.default is parameter.empty or is_required(parameter, inputs)
        }
        unknown = set(inputs) - {parameter.name for parameter in self._parameters}
        if unknown:
            raise ScriptError(f"@input_schema names {', '.join(sorted(unknown))}, which run() does not take")

    def bind(self, call: Call) -> dict[str, Any]:
        """A value for each parameter: from the body, converted, or its default."""
        given = query_parameters(call.query) if call.method == "GET" else json_object(call)
        bound = {}
        for parameter in self._parameters:
            if parameter.name in given:
                bound[parameter.name] = self._converted(given[parameter.name], parameter.name)
            elif parameter.name in self._required:
                raise Refusal(400, f"$.{parameter.name}: expected a value for this parameter, it is missing")
            elif not self._is_optional(parameter.name):
                # inference_schema looks for a value to convert, and fails where only a default is.
                bound[parameter.name] = parameter.default
        if self.needs_headers:
            bound[HEADERS_PARAMETER] = headers_of(call)
        return bound

    def _is_optional(self, name: str) -> bool:
        return name in self._inputs and self._inputs[name].is_optional

    def _converted(self, value: Any, name: str) -> Any:
        return self._inputs[name].convert(value, name) if name in self._inputs else value


def json_object(call: Call) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal 415 for another content type, 400 for anything else."""
    content_type = call.headers.get("content-type", JSON)
    if content_type != JSON and not _is_json(content_type):
        wanted = f"send the header Content-Type: {JSON}"
        raise Refusal(415, f"This service takes JSON: {wanted}, not {content_type[:100]}")
    if not call.body:
        raise Refusal(400, "The body is empty: expected a JSON object")
    value = parsed_json(call.body)
    if not isinstance(value, dict):
        raise Refusal(400, f"$: expected an object with a member for each parameter, got {described(value)}")
    return value


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


def query_parameters(query: bytes) -> dict[str, Any]:
    """Query parameters by name: each read as JSON where it is JSON, a repeated one as a list."""
    parsed = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    values = {name: [json_or_text(text) for text in texts] for name, texts in parsed.items()}
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in values.items()}


def headers_of(call: Call) -> Headers:
    """The request's headers as run() gets them."""
    return Headers((name.title(), value) for name, value in call.headers.items())


def json_or_text(text: str) -> Any:
    """What a query parameter says: its JSON value, or itself where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def parsed_json(body: bytes) -> Any:
    """The JSON value that a body is. Raises Refusal 400 when it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _parsed_with_nan(body, error)


def _parsed_with_nan(body: bytes, refusal: orjson.JSONDecodeError) -> Any:
    """Python's json.dumps writes NaN and Infinity for missing figures; JSON has neither, but such callers exist."""
    try:
        text = body.decode("utf-8")
        if "NaN" in text or "Infinity" in text:
            return json.loads(text)
    except UnicodeDecodeError as error:
        raise Refusal(400, f"The body is not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError):
        pass
    raise Refusal(400, f"The body is not JSON: {refusal}") from None
