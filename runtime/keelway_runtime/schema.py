"""What the decorators of inference_schema say about run(), read without importing that package.

Tried with inference-schema 1.8. Its documents come from its public functions. The parameter types it keeps to itself;
they are read from the decorators' closures, because converting before run() is the only way to tell a caller's bad
body (400) from an error of the user's own code (500). If a later release keeps them elsewhere, no input is found
here, run() converts by itself as before, and a bad body is a 500.
"""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Mapping

from keelway_runtime.conversion import Misfit, as_it_came, convert
from keelway_runtime.refusal import BadInput
from keelway_runtime.script import parameters

HEADERS_PARAMETER = "request_headers"
_ALL_VERSIONS = ("2.0", "3.0", "3.1")


@dataclass(frozen=True)
class DeclaredInput:
    """One parameter of run() whose type is declared, by @input_schema or by a hint.

    An optional one, which only @input_schema knows, may be left out, and no empty value of it is converted. Neither do
    hints convert a default, which @input_schema does.
    """

    conversion: Callable[[Any], Any]
    is_optional: bool = False
    is_default_converted: bool = False

    def convert(self, value: Any, name: str) -> Any:
        """The JSON value of the parameter `name` as its declared type. Raises BadInput."""
        if self.is_optional and not value:
            return value
        try:
            return self.conversion(value)
        except Misfit as misfit:
            raise BadInput(f"$.{name}{misfit.path}", misfit.expected, misfit.got) from None
        except RecursionError:
            raise BadInput(f"$.{name}", "a value that is not as deep") from None

    def is_required(self, parameter: inspect.Parameter) -> bool:
        """Whether callers must give it: it has no default, or one that its own type refuses, such as None."""
        if self.is_optional:
            return False
        if parameter.default is parameter.empty:
            return True
        try:
            if self.is_default_converted:
                self.convert(parameter.default, parameter.name)
        except BadInput:
            return True
        return False


@dataclass(frozen=True)
class ServiceSchema:
    """What a service takes and gives, as Swagger 2 schemas, each with its example.

    `required`: members that the input's schema does not name as such, as documents of the old system never did.
    """

    input: dict[str, Any] = field(default_factory=lambda: {"type": "object", "example": {}})
    output: dict[str, Any] = field(default_factory=lambda: {"type": "object", "example": {}})
    versions: tuple[str, ...] = _ALL_VERSIONS
    inputs: dict[str, DeclaredInput] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    is_input_declared: bool = False
    is_body_bytes: bool = False


def decorated_schema(run: Callable[..., Any]) -> ServiceSchema | None:
    """The schema that run()'s decorators declare; None when it has none."""
    library = sys.modules.get("inference_schema.schema_util")
    function = inspect.unwrap(run)
    if library is None or not library.is_schema_decorated(function):
        return None
    declared_input = library.get_input_schema(function)
    is_input_declared = "properties" in declared_input
    declared_output = library.get_output_schema(function)
    free = ServiceSchema()
    inputs = dict(_declared_inputs(run))
    return ServiceSchema(
        input=_plain(_without_headers(declared_input)) if is_input_declared else free.input,
        output=_plain(declared_output) if "example" in declared_output else free.output,
        versions=tuple(library.get_supported_versions(function)),
        inputs=inputs,
        required=tuple(_required(run, inputs)) if is_input_declared else (),
        is_input_declared=is_input_declared,
    )


def _required(run: Callable[..., Any], inputs: dict[str, DeclaredInput]) -> Iterator[str]:
    for parameter in parameters(run):
        if parameter.name != HEADERS_PARAMETER and is_required(parameter, inputs):
            yield parameter.name


def is_required(parameter: inspect.Parameter, inputs: Mapping[str, DeclaredInput]) -> bool:
    """Whether callers must give a parameter of a run() with these declared inputs."""
    if parameter.name in inputs:
        return inputs[parameter.name].is_required(parameter)
    return parameter.default is parameter.empty


def _without_headers(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema less request_headers, which come from the request itself and not from its body."""
    kept = {part: {**schema[part]} for part in ("properties", "example")}
    for part in kept.values():
        part.pop(HEADERS_PARAMETER, None)
    return {**schema, **kept}


def _plain(schema: Any) -> Any:
    """The schema less formats like numpy.ndarray: old documents have none, and no other language knows them."""
    if not isinstance(schema, dict):
        return schema
    is_kept = {
        name: name != "format" or not str(part).startswith(("numpy.", "pandas.")) for name, part in schema.items()
    }
    return {name: part if name == "example" else _plain(part) for name, part in schema.items() if is_kept[name]}


def _declared_inputs(run: Callable[..., Any]) -> Iterator[tuple[str, DeclaredInput]]:
    layer: Any = run
    while layer is not None:
        wrapper = getattr(layer, "_self_wrapper", None)
        if inspect.isfunction(wrapper) and wrapper.__module__ == "inference_schema.schema_decorators":
            cells = inspect.getclosurevars(wrapper).nonlocals
            if "param_type" in cells:
                conversion = functools.partial(convert, kind=cells["param_type"])
                is_converted, is_optional = bool(cells["convert_to_provided_type"]), bool(cells["optional"])
                declared = DeclaredInput(conversion if is_converted else as_it_came, is_optional, is_converted)
                yield cells["param_name"], declared
        layer = getattr(layer, "__wrapped__", None)
