"""`keelway workspace`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keelway import context
from keelway.cli import output
from keelway.cli.command import NameArgument, NameOption, command, connect, emit, one_of

if TYPE_CHECKING:
    from keelway.contracts.access import Workspace

app = typer.Typer(name="workspace", help="The tenant boundary: everything belongs to one.", no_args_is_help=True)


@command(app, "create")
def create(
    argument: NameArgument = None,
    name: NameOption = None,
    description: Annotated[str, typer.Option("-d", "--description")] = "",
) -> None:
    """Make a workspace."""
    with connect() as client:
        made = client.workspaces.create(one_of(argument, name), description=description)
    emit(made, f"made workspace {made.name}; `keelway workspace use {made.name}` makes it yours")


@command(app, "list")
def list_() -> None:
    """List the workspaces you may see."""
    with connect() as client:
        found, current = list(client.workspaces.list()), client.workspace
    rows = [["*" if item.name == current else "", item.name, item.description] for item in found]
    emit(found, output.columns(["", "name", "description"], rows))


@command(app, "show")
def show(argument: NameArgument = None, name: NameOption = None) -> None:
    """Show a workspace, the current one unless named."""
    with connect() as client:
        found = client.workspaces.get(one_of(argument, name) if argument or name else client.workspace)
    emit(found, _text(found))


@command(app, "update")
def update(
    argument: NameArgument = None,
    name: NameOption = None,
    description: Annotated[str | None, typer.Option("-d", "--description")] = None,
    refuse_findings: Annotated[
        str | None,
        typer.Option(
            metavar="none|danger|warning",
            help="From which severity on findings in its files keep a version undeployed.",
        ),
    ] = None,
) -> None:
    """Describe a workspace otherwise, or change its policies."""
    if description is None and refuse_findings is None:
        raise typer.BadParameter("say what to change")
    with connect() as client:
        wanted = one_of(argument, name) if argument or name else client.workspace
        changed = client.workspaces.update(wanted, description=description, refuse_findings=refuse_findings)
    emit(changed, _text(changed))


@command(app, "use")
def use(argument: NameArgument = None, name: NameOption = None) -> None:
    """Make a workspace the current context's own."""
    with connect() as client:
        found = client.workspaces.get(one_of(argument, name))
    context.use_workspace(found.name)
    emit(found, f"using workspace {found.name}")


def _text(found: Workspace) -> str:
    made = f"{output.when(found.created_at)} by {found.created_by}"
    refused = found.policies.refuse_findings.value
    return output.fields(
        name=found.name,
        description=found.description,
        refuse_findings="" if refused == "none" else refused,
        created=made,
    )
