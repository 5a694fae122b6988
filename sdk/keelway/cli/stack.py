"""`keelway up`, `demo` and `doctor`: the embedded stack, which is a package of its own."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from keelway.cli.command import as_json, command, emit
from keelway.errors import KeelwayError

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where everything is kept.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for name, function in {"up": up, "demo": demo, "doctor": doctor}.items():
        command(app, name)(function)


def up(
    data_dir: DataDir = None,
    host: Annotated[str, typer.Option("--host", help="Address the API listens on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the API; 0 is any free one, which is printed.")
    ] = 7300,
    gateway_port: Annotated[
        int, typer.Option("--gateway-port", min=0, max=65535, help="Port of services; 0 as above.")
    ] = 7301,
) -> None:
    """Start everything on this machine; Ctrl-C stops it."""
    _run("up", data_dir=data_dir, host=host, port=port, gateway_port=gateway_port)


def demo(data_dir: DataDir = None) -> None:
    """Start, register, deploy and score on real data, and print each answer."""
    _run("demo", data_dir=data_dir)


def doctor(data_dir: DataDir = None) -> None:
    """Check versions, durability settings and invariants; ends with 1 and a list when something is wrong."""
    _run("doctor", data_dir=data_dir)


def _run(name: str, **arguments: object) -> None:
    function = getattr(_standalone(), name)
    # What it says is for people; with --json, stdout belongs to the one document.
    with contextlib.redirect_stdout(sys.stderr) if as_json() else contextlib.nullcontext():
        exit_code = function(**arguments)
    if as_json():
        emit({"command": name, "exit_code": exit_code}, "")
    raise typer.Exit(exit_code)


def _standalone() -> ModuleType:
    try:
        return importlib.import_module("keelway_standalone.cli")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("keelway_standalone"):
            raise
        raise KeelwayError("this needs the whole of Keelway, not only its SDK: pip install keelway") from error
