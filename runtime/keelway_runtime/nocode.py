"""A model served without an entry script: the built-in run(), and what the service says of itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

from keelway_runtime.conversion import described
from keelway_runtime.encode import encode
from keelway_runtime.frameworks import FRAMEWORKS, Model, in_short
from keelway_runtime.refusal import BadInput, Refusal
from keelway_runtime.schema import ServiceSchema
from keelway_runtime.script import Script, ScriptError

COMPANIONS = {"requirements.txt", "input_example.json", "serving_input_example.json"}
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}


def load(framework: str, folder: Path) -> Script:
    """The scorer for the one model in this folder.

    Raises ScriptError for an unknown framework, for none or several files that could be the model and for a library
    that is missing, and whatever the library raises for a file that it cannot read.
    """
    name = {known.lower(): known for known in FRAMEWORKS}.get(framework.lower())
    if name is None:
        raise ScriptError(f"there is no built-in scorer for {framework!r}; there are {', '.join(FRAMEWORKS)}")
    suffixes, loader = FRAMEWORKS[name]
    path = _sole_candidate(folder, suffixes, name)
    model = loader(path)
    run = _run_of(model)
    parameter = "data" if model.is_by_rows else ""
    return Script(path=path, run=run, is_async=False, schema=_schema(model, run), batch_parameter=parameter)


def _sole_candidate(folder: Path, suffixes: tuple[str, ...], framework: str) -> Path:
    # os.walk, because Path.rglob does not enter folders that are links, as `keelway score` lays them out.
    walked = os.walk(folder, followlinks=True)
    files = sorted(Path(parent, name) for parent, _, names in walked for name in names if name[0] != ".")
    found = [path for path in files if path.name.endswith(suffixes) and path.name not in COMPANIONS]
    if len(found) == 1:
        return found[0]
    there = ", ".join(str(path.relative_to(folder)) for path in (found or files)[:20]) or "nothing"
    wanted = " or ".join(f"*{suffix}" for suffix in suffixes)
    raise ScriptError(f"{framework} without an entry script takes exactly one {wanted} in {folder}, there is {there}")


def _run_of(model: Model) -> Callable[..., Any]:
    def run(data: Any, method: str = "predict") -> Any:
        if not isinstance(method, str) or method not in model.methods:
            raise BadInput("$.method", " or ".join(model.methods), described(method))
        try:
            answer = model.methods[method](model.prepared(data))
        except model.refusals as error:
            if not _is_about_input(error):
                raise
            raise Refusal(400, f"$.data: the model does not take it: {in_short(error)}") from error
        return answer.toarray() if hasattr(answer, "toarray") else answer  # a vectorizer's is sparse

    return run


def _is_about_input(error: Exception) -> bool:
    """Whether an installed library refused its input; a step of the user's own may raise the same for any reason.

    A model that was never fit, and a graph for which there is no memory, say so in the types of any refusal.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    file = str(frame.tb_frame.f_globals.get("__file__")) if frame else ""
    is_memory = isinstance(error, RuntimeError) and "alloc" in str(error)
    return "-packages" in file and type(error).__name__ != "NotFittedError" and not is_memory


def _schema(model: Model, run: Callable[..., Any]) -> ServiceSchema:
    """What the service takes and gives, shown by its answer to the model's example.

    An example that the model itself refuses (a column of texts has no zero) is not shown, nor are its types.
    """
    example = {"data": model.example, "method": next(iter(model.methods))}
    try:
        answer = json.loads(encode(run(**example)))
    except Exception:  # noqa: BLE001 - the model failed on values of ours, not of a caller
        shown, output, data = {}, {}, _described(model.example, has_types=False)
    else:
        shown, output, data = {"example": example}, {**_described(answer), "example": answer}, _described(model.example)
    members = {"data": data, "method": {"type": "string", "enum": list(model.methods)}}
    given = {"type": "object", "required": ["data"], "properties": members, **shown}
    return ServiceSchema(input=given, output=output, is_input_declared=True)


def _described(value: Any, *, has_types: bool = True) -> dict[str, Any]:
    if isinstance(value, dict):
        members = {name: _described(member, has_types=has_types) for name, member in value.items()}
        return {"type": "object", "properties": members}
    if isinstance(value, list):
        return {"type": "array", "items": _described(value[0], has_types=has_types) if value else {}}
    return {"type": KINDS[type(value)]} if has_types and type(value) in KINDS else {}
