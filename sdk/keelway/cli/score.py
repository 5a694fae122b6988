"""`keelway score`: an entry script, or a model alone, served on this machine, laid out as in a replica."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from keelway.cli import output
from keelway.cli.command import as_json, command, emit
from keelway.errors import InvalidInput

_DEFAULT_PORT = 5001
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "score")(score)


def score(
    entry_script: Annotated[
        Path | None, typer.Option("--entry-script", help="The script with init() and run().")
    ] = None,
    framework: Annotated[
        str | None, typer.Option("--framework", help="Serve the model without a script: ScikitLearn, Onnx, ...")
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="[NAME=]PATH", help="A file or folder.")] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Default: 5001, or a free one.")] = None,
    name: Annotated[
        str, typer.Option("--name", help="The service's name, as its script and Swagger see it.")
    ] = "local",
) -> None:
    """Serve an entry script here and now, with the models where it will find them when deployed; or a model alone."""
    if (entry_script is None) == (framework is None):
        raise typer.BadParameter("give exactly one of them", param_hint="'--entry-script' / '--framework'")
    scorer = _checked(entry_script) if entry_script else str(framework)
    models = [_named(text) for text in model or []]
    with tempfile.TemporaryDirectory(prefix="keelway-score-") as root, _listener(port) as listener:
        app_root = Path(root)
        environment = lay_out(app_root, scorer, models)
        bound = listener.getsockname()[1]
        environment |= {"KEELWAY_PORT": str(bound), "KEELWAY_LISTEN_FD": str(listener.fileno()), "SERVICE_NAME": name}
        address = f"http://127.0.0.1:{bound}/score"
        emit({"scoring_uri": address, "swagger_uri": f"http://127.0.0.1:{bound}/swagger.json"}, f"serving {address}")
        sys.stdout.flush()
        exit_code = _serve(environment, listener.fileno())
    raise typer.Exit(exit_code)


def lay_out(app_root: Path, scorer: Path | str, models: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """Make an app root as a replica has it, and return the variables that describe it.

    `scorer` is the entry script, or the name of a framework that has a built-in one.
    """
    folder = app_root / "azureml-models"
    folder.mkdir()
    for name, path in models:
        place = folder / name / "1"
        if place.exists():
            raise InvalidInput(f"two models are called {name!r}; name them with NAME=PATH")
        place.mkdir(parents=True)
        _copy(path, place / path.name)
    model_dir = folder / models[0][0] / "1" if len(models) == 1 else folder
    environment = {"AML_APP_ROOT": str(app_root), "AZUREML_MODEL_DIR": str(model_dir)}
    if isinstance(scorer, str):
        return {**environment, "KEELWAY_NO_CODE": scorer}
    (app_root / "source").symlink_to(scorer.parent)
    return {**environment, "AZUREML_ENTRY_SCRIPT": scorer.name, "AZUREML_SOURCE_DIRECTORY": "source"}


def _checked(entry_script: Path) -> Path:
    from keelway.inference import InferenceSource  # noqa: PLC0415  (slow to import)

    script = entry_script.absolute()
    InferenceSource(entry_script=script.name, source_directory=script.parent).check()
    return script


def _copy(path: Path, place: Path) -> None:
    # A link and not a copy: models are large, and what the script would write into one is the user's own business.
    try:
        place.symlink_to(path)
    except OSError:  # a file system without links
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, place)


def _named(text: str) -> tuple[str, Path]:
    name, equals, rest = text.partition("=")
    path = Path(rest if equals else text).absolute()
    if not path.exists():
        raise InvalidInput(f"the model {path} does not exist")
    name = name if equals else path.name
    if not name or "/" in name or name in {".", ".."}:
        raise InvalidInput(f"{name!r} is no name for a model")
    return name, path


@contextmanager
def _listener(port: int | None) -> Iterator[socket.socket]:
    """A bound socket for the server to inherit: nobody can take the port in between."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port or _DEFAULT_PORT))
        except OSError as error:
            if port:
                raise InvalidInput(f"port {port} cannot be used: {error.strerror}") from error
            listener.bind(("127.0.0.1", 0))
        yield listener


def _serve(environment: dict[str, str], listener: int) -> int:
    """Run the server until it ends; its exit code, as a shell would give it."""
    # In a session of its own: a Ctrl-C must reach it once, through us, and not a second time from the terminal.
    server = subprocess.Popen(
        [sys.executable, "-m", "keelway_runtime"],
        env={**os.environ, **environment},
        pass_fds=[listener],
        stdout=sys.stderr.fileno() if as_json() else None,
        start_new_session=True,
    )
    before = {number: signal.signal(number, lambda n, _: server.send_signal(n)) for number in _FORWARDED}
    try:
        exit_code = server.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if exit_code:
        output.note(f"the server ended with exit code {exit_code}")
    return exit_code if exit_code >= 0 else 128 - exit_code
