"""Keelway's scoring server: an entry script's init() and run() over HTTP. Start it with `python -m keelway_runtime`."""

from __future__ import annotations

__all__ = ["Settings", "SettingsError", "batchable"]
__version__ = "0.1.0"

from keelway_runtime.marking import batchable
from keelway_runtime.settings import Settings, SettingsError
