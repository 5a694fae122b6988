"""Modules that old entry scripts import and that may be missing here.

The finder is *appended* to sys.meta_path, so an installed package wins, module by module, and only the gaps are
filled. A stand-in package earlier on sys.path would hide the rest of a real `azureml`.
"""

from __future__ import annotations

import importlib
import logging
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable

from keelway_runtime import model_path, rawhttp

log = logging.getLogger("keelway_runtime.shims")


class Model:
    """The part of azureml.core.Model that an entry script uses, offline."""

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: Any = None) -> str:
        """The path of a model's file or folder in this replica, see keelway_runtime.model_path."""
        return model_path.get_model_path(model_name, version)


def _fill_package(module: ModuleType) -> None:
    """Leave it empty: a parent only has to exist."""


def _fill_core(module: ModuleType) -> None:
    module.Model = Model  # type: ignore[attr-defined]


def _fill_exceptions(module: ModuleType) -> None:
    module.ModelNotFoundException = model_path.ModelNotFoundException  # type: ignore[attr-defined]


def _fill_automl(module: ModuleType) -> None:
    log.warning("azureml.train.automl is not installed: an empty module stands in for it")


def _fill_joblib(module: ModuleType) -> None:
    joblib = importlib.import_module("joblib")
    log.warning("sklearn.externals.joblib no longer exists: joblib is used, import that instead")
    # The import system hands out what lies in sys.modules after this. The submodules too: an old pickle names
    # sklearn.externals.joblib.numpy_pickle, and a second copy of it would not know its own classes.
    loaded = {name: part for name, part in sys.modules.items() if name.startswith("joblib.")}
    sys.modules.update({f"sklearn.externals.{name}": part for name, part in loaded.items()})
    sys.modules[module.__name__] = joblib


def _fill_request(module: ModuleType) -> None:
    module.rawhttp, module.AMLRequest = rawhttp.rawhttp, rawhttp.AMLRequest  # type: ignore[attr-defined]


def _fill_response(module: ModuleType) -> None:
    module.AMLResponse = rawhttp.AMLResponse  # type: ignore[attr-defined]


def _fill_monitoring(module: ModuleType) -> None:
    collect = importlib.import_module("keelway_runtime.collect")  # late: few scripts collect
    module.ModelDataCollector = collect.ModelDataCollector  # type: ignore[attr-defined]


FILLERS: dict[str, Callable[[ModuleType], None]] = {
    "azureml": _fill_package,
    "azureml.contrib": _fill_package,
    "azureml.contrib.services": _fill_package,
    "azureml.contrib.services.aml_request": _fill_request,
    "azureml.contrib.services.aml_response": _fill_response,
    "azureml.core": _fill_core,
    "azureml.core.model": _fill_core,
    "azureml.exceptions": _fill_exceptions,
    "azureml.monitoring": _fill_monitoring,
    "azureml.train": _fill_package,
    "azureml.train.automl": _fill_automl,
    "azureml_inference_server_http": _fill_package,
    "azureml_inference_server_http.api": _fill_package,
    "azureml_inference_server_http.api.aml_request": _fill_request,
    "azureml_inference_server_http.api.aml_response": _fill_response,
    "sklearn.externals": _fill_package,
    "sklearn.externals.joblib": _fill_joblib,
}


class ShimFinder(MetaPathFinder, Loader):
    """Finds the modules of FILLERS, after every other finder has failed."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A spec for a module of ours, None for any other."""
        if fullname not in FILLERS:
            return None
        return ModuleSpec(fullname, self, origin="keelway_runtime", is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        """Put into the new module what scripts expect there."""
        FILLERS[module.__name__](module)


class ReplacingFinder(ShimFinder):
    """Finds azureml.monitoring before a real one, which would send to where nobody listens."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A spec for that module only."""
        return super().find_spec(fullname) if fullname == "azureml.monitoring" else None


def install() -> None:
    """Offer the shims in this process; a second call does nothing."""
    if not any(isinstance(finder, ShimFinder) for finder in sys.meta_path):
        sys.meta_path[:] = [ReplacingFinder(), *sys.meta_path, ShimFinder()]
