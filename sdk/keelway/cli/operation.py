"""`keelway operation`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from keelway.cli import output
from keelway.cli.command import ShownLimit, Yes, as_json, command, confirm, connect, emit, workspace
from keelway.cli.progress import Steps
from keelway.errors import raise_unless_succeeded

if TYPE_CHECKING:
    from keelway.contracts.operations import Operation

app = typer.Typer(name="operation", help="Long-running work: how far, how it ended, its log.", no_args_is_help=True)

# As `OperationState`, whose module is slow to import; a test holds them together.
State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
Id = Annotated[str, typer.Argument(metavar="ID", help="The operation's id.")]


@command(app, "list")
def list_(
    state: Annotated[State | None, typer.Option("--state", help="Only in this state.")] = None,
    limit: ShownLimit = 50,
) -> None:
    """List operations, newest first; of all workspaces you may see unless one is named."""
    with connect() as client:
        found = list(islice(client.operations.list(workspace=workspace(), state=state), limit))
    rows = [[o.id, o.workspace, o.kind, o.subject, o.state, output.when(o.created_at)] for o in found]
    emit(found, output.columns(["id", "workspace", "kind", "subject", "state", "created"], rows))


@command(app, "show")
def show(id: Id) -> None:
    """Show an operation, its steps and how it ended."""
    with connect() as client:
        found = client.operations.get(id)
    emit(found, _details(found))


@command(app, "watch")
def watch(id: Id) -> None:
    """Show the steps of an operation until it ends; ends with 1 if it did not succeed."""
    with connect() as client, Steps() as steps:
        ended = raise_unless_succeeded(client.operations.wait(id, on_change=steps))
    emit(ended, f"operation {ended.id}: {ended.state}")


@command(app, "logs")
def logs(id: Id, follow: Annotated[bool, typer.Option("-f", "--follow", help="Until it ends.")] = False) -> None:
    """Print an operation's log."""
    with connect() as client:
        pieces = client.operations.logs(id, follow=follow)
        if as_json():
            emit({"id": id, "text": "".join(pieces)}, "")
            return
        for piece in pieces:
            print(piece, end="", flush=True)


@command(app, "cancel")
def cancel(id: Id, yes: Yes = False) -> None:
    """Stop an operation."""
    confirm(f"Cancel operation {id}?", yes=yes)
    with connect() as client:
        found = client.operations.cancel(id)
    emit(found, f"operation {found.id}: {found.state}")


def _details(found: Operation) -> str:
    head = output.fields(
        id=found.id,
        kind=found.kind,
        subject=found.subject,
        workspace=found.workspace,
        state=found.state,
        attempts=f"{found.attempts} of {found.max_attempts}",
        created=f"{output.when(found.created_at)} by {found.created_by}",
        ended=output.when(found.ended_at),
    )
    steps = [[step.name, output.seconds(step.started_at, step.ended_at)] for step in found.steps]
    parts = [head, output.columns(["step", "time"], steps)]
    if found.error:
        from keelway.errors import OperationFailed  # noqa: PLC0415

        parts.append(str(OperationFailed(found)))
    return "\n\n".join(parts)
