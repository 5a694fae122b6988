"""`keelway experiment`."""

from __future__ import annotations

from typing import Annotated

import typer

from keelway.cli import output
from keelway.cli.command import command, connect, emit

app = typer.Typer(name="experiment", help="Experiments: what runs belong to.", no_args_is_help=True)


@app.callback()
def _group() -> None:  # one command alone would stand in the place of the group
    pass


@command(app, "list")
def list_(
    name: Annotated[str | None, typer.Option("-n", "--name", help="Only this one, if it is there.")] = None,
) -> None:
    """List experiments by name; each was made with its first run."""
    with connect() as client:
        found = list(client.experiments.list(name=name))
    rows = [[one.name, output.when(one.created_at), one.created_by] for one in found]
    emit(found, output.columns(["name", "created", "by"], rows))
