"""`keelway model alias`: names that move from version to version."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from keelway.cli import output
from keelway.cli.command import command, connect, emit
from keelway.errors import InvalidInput

if TYPE_CHECKING:
    from keelway.contracts.models import Alias, AliasChange

app = typer.Typer(name="alias", help="Names for versions, such as champion; every move is kept.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL")]
Name = Annotated[str, typer.Argument(metavar="ALIAS")]


@command(app, "set")
def set_(
    model: Model, alias: Name, version: Annotated[str, typer.Argument(metavar="VERSION", help="A number, or latest.")]
) -> None:
    """Have an alias name a version from now on."""
    with connect() as client:
        held = client.models.set_alias(model, alias, _version(version))
    emit(held, f"{held.alias} is {held.model}:{held.version}")


@command(app, "remove")
def remove(model: Model, alias: Name) -> None:
    """Take an alias away; its history stays."""
    with connect() as client:
        client.models.remove_alias(model, alias)
    emit({"removed": alias}, f"{alias} names no version of {model} any more")


@command(app, "list")
def list_(model: Model) -> None:
    """List the aliases of a model."""
    with connect() as client:
        found = list(client.models.aliases(model))
    rows = [[held.alias, f"{held.model}:{held.version}", output.when(held.since), held.by] for held in found]
    emit(found, output.columns(["alias", "version", "since", "by"], rows))


@command(app, "show")
def show(
    model: Model,
    alias: Name,
    at: Annotated[datetime | None, typer.Option("--at", help="Who held it then (local time).")] = None,
) -> None:
    """Show which version an alias names, now or at a time in the past."""
    with connect() as client:
        held = client.models.alias(model, alias, at=at.astimezone() if at else None)
    emit(held, _text(held))


@command(app, "history")
def history(model: Model, alias: Name) -> None:
    """List every move of an alias, newest first."""
    with connect() as client:
        found = list(client.models.alias_history(model, alias))
    rows = [[output.when(change.at), _move(change), change.by] for change in found]
    emit(found, output.columns(["at", "move", "by"], rows))


def _version(text: str) -> int | Literal["latest"]:
    if text == "latest":
        return "latest"
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"{text!r} is neither the number of a version nor 'latest'")
    return int(text)


def _text(held: Alias) -> str:
    since = f"{output.when(held.since)} by {held.by}"
    return output.fields(alias=held.alias, version=f"{held.model}:{held.version}", since=since)


def _move(change: AliasChange) -> str:
    if change.from_version is None:
        return f"set to {change.to_version}"
    return (
        f"{change.from_version} -> {change.to_version}" if change.to_version else f"removed from {change.from_version}"
    )
