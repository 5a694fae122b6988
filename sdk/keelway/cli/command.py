"""What every command has in common: `--json`, `--workspace`, and how it ends."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keelway.cli import output
from keelway.errors import KeelwayError

if TYPE_CHECKING:
    from keelway.client import Client


@dataclass(frozen=True)
class Invocation:
    """How the running command was asked for."""

    as_json: bool = False
    workspace: str | None = None


_invocation: ContextVar[Invocation] = ContextVar("invocation")

_COMMON = {
    "_as_json": Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")],
    "_workspace": Annotated[
        str | None,
        typer.Option("-w", "--workspace", "--workspace-name", help="Workspace, instead of the current context's."),
    ],
}
_DEFAULTS: dict[str, Any] = {"_as_json": False, "_workspace": None}

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="Its name.", show_default=False)]
NameOption = Annotated[str | None, typer.Option("-n", "--name", help="Its name, instead of NAME.")]
ShownLimit = Annotated[int, typer.Option("--limit", min=1, help="How many to show at most.")]


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command of `app`: with the common options, and with errors printed and exit code 1."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, _as_json: bool = False, _workspace: str | None = None, **kwargs: Any) -> None:
            token = _invocation.set(Invocation(_as_json, _workspace))
            try:
                function(*args, **kwargs)
            except BrokenPipeError:  # `| head` has seen enough; Typer ends quietly
                raise
            except (KeelwayError, OSError) as error:
                output.print_error(error, as_json=_as_json)
                raise typer.Exit(1) from None
            finally:
                _invocation.reset(token)

        signature = inspect.signature(function, eval_str=True)
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[key], annotation=annotation)
            for key, annotation in _COMMON.items()
        ]
        run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *common])  # type: ignore[attr-defined]
        app.command(name)(run)
        return function

    return register


def as_json() -> bool:
    """Whether the running command was asked for JSON."""
    return _invocation.get().as_json


def workspace() -> str | None:
    """The workspace the running command was given, if any."""
    return _invocation.get().workspace


def connect() -> Client:
    """A client for the running command."""
    from keelway.client import Client  # noqa: PLC0415  (httpx2 takes a quarter of a second to import)

    client = Client(workspace=workspace())
    client.transport.on_wait = output.note  # half a minute of silence looks like a hang
    return client


def emit(document: Any, text: str) -> None:
    """The command's answer: `document` with --json, else `text`."""
    if as_json():
        print(output.as_json_text(document))
    else:
        output.answer(text)


def one_of(argument: str | None, option: str | None, *, what: str = "NAME") -> str:
    """What was given as an argument or as an option; exactly one of them must be there."""
    if (argument is None) == (option is None):
        raise typer.BadParameter(f"give {what} once, as an argument or as an option")
    return str(argument or option)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed; ends the command with 1 unless the answer is yes."""
    if yes:
        return
    # typer.confirm() puts a blank on stdout even when told to use stderr.
    print(output.visible(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise typer.Abort


def pairs(texts: list[str] | None, *, option: str) -> dict[str, str]:
    """`k=v` texts as a dictionary. A usage error for one without `=`, and for a key given twice."""
    found: dict[str, str] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not key=value", param_hint=option)
        if key in found:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint=option)
        found[key] = value
    return found
