"""Keelway's Python SDK, command line and wire contracts.

    from keelway import Client

    kw = Client()  # as `keelway login` or KEELWAY_URL and KEELWAY_TOKEN say
    version = kw.models.register("ridge", "model.pkl")

Names are loaded when they are first used: `import keelway` must stay cheap, because the command line, the API and
the contracts all pass through here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keelway import errors
    from keelway.client import Client
    from keelway.errors import KeelwayError
    from keelway.inference import InferenceSource

    __version__: str

__all__ = ["Client", "InferenceSource", "KeelwayError", "__version__", "errors"]

_HOMES = {"Client": "keelway.client", "InferenceSource": "keelway.inference", "KeelwayError": "keelway.errors"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("keelway-sdk")
    if name == "errors":
        return import_module("keelway.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
