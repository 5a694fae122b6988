"""What the decorators of inference_schema say about run(), read without importing that package.

Tried with inference-schema 1.8. Its documents come from its public functions. The parameter types it keeps to itself;
they are read from the decorators' closures, because converting before run() is the only way to tell a caller's bad
body (400) from an error of the user's own code (500). If a later release keeps them elsewhere, no input is found
here, run() converts by itself as before, and a bad body is a 500.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator

_ALL_VERSIONS = ("2.0", "3.0", "3.1")


@dataclass(frozen=True)
class DeclaredInput:
    """One parameter of run() that has an @input_schema."""

    kind: Any
    is_converted: bool
    is_optional: bool


@dataclass(frozen=True)
class ServiceSchema:
    """What a service takes and gives, as Swagger 2 schemas, each with its example."""

    input: dict[str, Any] = field(default_factory=lambda: {"type": "object", "example": {}})
    output: dict[str, Any] = field(default_factory=lambda: {"type": "object", "example": {}})
    versions: tuple[str, ...] = _ALL_VERSIONS
    inputs: dict[str, DeclaredInput] = field(default_factory=dict)
    is_input_declared: bool = False


def schema_of(run: Callable[..., Any]) -> ServiceSchema:
    """The schema that run()'s decorators declare; a free-form one when it has none."""
    library = sys.modules.get("inference_schema.schema_util")
    function = inspect.unwrap(run)
    if library is None or not library.is_schema_decorated(function):
        return ServiceSchema()
    declared_input = library.get_input_schema(function)
    is_input_declared = "properties" in declared_input
    declared_output = library.get_output_schema(function)
    free = ServiceSchema()
    return ServiceSchema(
        input=_without_headers(declared_input) if is_input_declared else free.input,
        output=declared_output if "example" in declared_output else free.output,
        versions=tuple(library.get_supported_versions(function)),
        inputs=dict(_declared_inputs(run)),
        is_input_declared=is_input_declared,
    )


def _without_headers(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema less request_headers, which come from the request itself and not from its body."""
    kept = {part: {**schema[part]} for part in ("properties", "example")}
    for part in kept.values():
        part.pop("request_headers", None)
    return {**schema, **kept}


def _declared_inputs(run: Callable[..., Any]) -> Iterator[tuple[str, DeclaredInput]]:
    layer: Any = run
    while layer is not None:
        wrapper = getattr(layer, "_self_wrapper", None)
        if inspect.isfunction(wrapper) and wrapper.__module__ == "inference_schema.schema_decorators":
            cells = inspect.getclosurevars(wrapper).nonlocals
            if "param_type" in cells:
                is_converted, is_optional = bool(cells["convert_to_provided_type"]), bool(cells["optional"])
                yield cells["param_name"], DeclaredInput(cells["param_type"], is_converted, is_optional)
        layer = getattr(layer, "__wrapped__", None)
