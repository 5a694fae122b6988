"""All commands put together."""

from __future__ import annotations

import sys
from typing import cast

import typer

from keelway.cli import (
    alias,
    collected,
    deploy,
    environment,
    experiment,
    image,
    login,
    model,
    operation,
    output,
    package,
    score,
    service,
    stack,
    upkeep,
    workspace,
)
from keelway.cli import run as run_commands

# Typer gives it no public name, and where it lives differs between its releases.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="keelway",
    help="Register models, deploy them, watch what runs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help needs no Rich, whose import takes longer than all the rest
    pretty_exceptions_enable=False,
)

for noun in (model, experiment, run_commands, environment, image, package, service, operation, workspace):
    app.add_typer(noun.app)
for part in (stack, login, score, upkeep):
    part.add_to(app)
deploy.add_to(model.app)
package.add_to(model.app)
model.app.add_typer(alias.app)
service.app.add_typer(collected.app)


def run() -> None:
    """Run the command line. With --json, wrong use is told as a JSON document as well."""
    if "--json" not in sys.argv:
        app()
        return
    try:
        exit_code = app(standalone_mode=False)
    except _UsageError as error:
        detail = error.format_message()  # type: ignore[attr-defined]
        output.note(output.as_json_text({"type": "usage", "title": "Wrong use of the command", "detail": detail}))
        exit_code = 2
    except typer.Abort:
        output.note(output.as_json_text({"type": "aborted", "title": "Aborted", "detail": ""}))
        exit_code = 1
    sys.exit(exit_code)
