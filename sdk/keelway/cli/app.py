"""All commands put together."""

from __future__ import annotations

import typer

from keelway.cli import deploy, environment, login, model, operation, score, service, stack, workspace

app = typer.Typer(
    name="keelway",
    help="Register models, deploy them, watch what runs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help needs no Rich, whose import takes longer than all the rest
    pretty_exceptions_enable=False,
)

for noun in (model, environment, service, operation, workspace):
    app.add_typer(noun.app)
for part in (stack, login, score):
    part.add_to(app)
deploy.add_to(model.app)
