"""The user's entry script: found, imported, checked, initialised."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable

from keelway_runtime import model_path
from keelway_runtime.settings import Settings

if TYPE_CHECKING:
    from keelway_runtime.schema import ServiceSchema

_REFUSED_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional-only parameters",
    inspect.Parameter.VAR_POSITIONAL: "*args",
    inspect.Parameter.VAR_KEYWORD: "**kwargs",
}


class ScriptError(Exception):
    """The entry script is not one that can be served; says why."""


@dataclass(frozen=True)
class Script:
    """A loaded entry script, whose init() has returned; or a built-in run(), which brings its own schema.

    Requests that are equal but for `batch_parameter`, a list of rows, may be joined along it.
    """

    path: Path
    run: Callable[..., Any]
    is_async: bool
    schema: ServiceSchema | None = None
    batch_parameter: str = ""


def prepare_process(settings: Settings) -> None:
    """Give the script the surroundings it may rely on: working directory, environment, sys.path.

    AML_APP_ROOT is always set, because the real azureml-core's get_model_path reads nothing else.
    """
    os.chdir(settings.app_root)
    os.environ["AML_APP_ROOT"] = str(settings.app_root)
    os.environ["AZUREML_MODEL_DIR"] = settings.model_dir or str(model_path.default_model_dir(settings.app_root))
    beside = [] if settings.no_code else [entry_path(settings).parent]
    folders = [*beside, settings.source_directory or settings.app_root]
    sys.path[:0] = [folder for folder in dict.fromkeys(map(str, folders)) if folder not in sys.path]


def entry_path(settings: Settings) -> Path:
    """The entry script's path: within the source directory if there is one, else within the app root.

    Clients of the old system name it from the app root even beside a source directory; where only that exists, it is
    that.
    """
    from_root = settings.app_root / settings.entry_script
    if settings.source_directory is None:
        return from_root
    from_source = settings.source_directory / settings.entry_script
    return from_root if from_root.is_file() and not from_source.is_file() else from_source


def load_entry(settings: Settings) -> Script:
    """The entry script, loaded, or the built-in scorer that stands in its place."""
    if not settings.no_code:
        return load(entry_path(settings))
    from keelway_runtime import nocode  # noqa: PLC0415 - it imports this module

    return nocode.load(settings.no_code, Path(os.environ["AZUREML_MODEL_DIR"]))


def load(path: Path) -> Script:
    """Import the script and call its init().

    Raises ScriptError when it lacks a function or has one that cannot be called, and whatever the script raises.
    """
    if not path.is_file():
        raise ScriptError(f"there is no entry script at {path}")
    module = _import(path)
    init, run = _function(module, "init"), _function(module, "run")
    _check_init(init)
    _check_run(run)
    init()
    return Script(path=path, run=run, is_async=inspect.iscoroutinefunction(run))


def parameters(run: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of run() as its author wrote them, through any decorator that keeps the signature."""
    return list(inspect.signature(run).parameters.values())


def _import(path: Path) -> ModuleType:
    # Under its own name, so that what it pickled or imports in a circle is found; not over another module's.
    name = path.stem if path.stem not in sys.modules else "entry_script"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise ScriptError(f"{module.__file__} has no function {name}()")
    return function


def _check_init(init: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(init):
        raise ScriptError("init() must be a plain function, it runs before there are requests to await beside")
    if any(parameter.default is parameter.empty for parameter in parameters(init)):
        raise ScriptError("init() must be callable without arguments")


def _check_run(run: Callable[..., Any]) -> None:
    for parameter in parameters(run):
        if parameter.kind in _REFUSED_KINDS:
            raise ScriptError(f"run() must not have {_REFUSED_KINDS[parameter.kind]}: arguments are matched by name")
    if not parameters(run):
        raise ScriptError("run() must have a parameter that takes the request")
