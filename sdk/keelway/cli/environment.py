"""`keelway environment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keelway.cli import output
from keelway.cli.command import NameArgument, NameOption, command, connect, emit, one_of, pairs
from keelway.cli.progress import Steps

if TYPE_CHECKING:
    from keelway.contracts.environments import EnvironmentVersion

app = typer.Typer(name="environment", help="The packages that scripts run with, locked.", no_args_is_help=True)

Version = Annotated[str, typer.Option("--version", "-v", help="A number or `latest`; NAME:VERSION works too.")]


@command(app, "register")
def register(
    *,
    argument: NameArgument = None,
    name: NameOption = None,
    conda_file: Annotated[Path | None, typer.Option("--conda-file", "-f", help="A conda environment file.")] = None,
    pip_requirements: Annotated[Path | None, typer.Option("--pip-requirements", "-r")] = None,
    python: Annotated[str | None, typer.Option("--python", help="Python version, e.g. 3.11.")] = None,
    variable: Annotated[list[str] | None, typer.Option("--variable", metavar="K=V")] = None,
) -> None:
    """Resolve what a conda or a requirements file asks for to a lock."""
    if (conda_file is None) == (pip_requirements is None):
        raise typer.BadParameter("give one of --conda-file and --pip-requirements")
    with connect() as client:
        version = client.environments.register(
            one_of(argument, name),
            conda_file=conda_file,
            pip_requirements=pip_requirements,
            python_version=python,
            environment_variables=pairs(variable, option="--variable"),
        )
    emit(version, f"registered {version.id} (Python {version.python_version})")


@command(app, "list")
def list_() -> None:
    """List environments with their latest version."""
    with connect() as client:
        found = list(client.environments.list())
    rows = [[e.name, e.latest.version, e.latest.python_version, output.when(e.latest.created_at)] for e in found]
    emit(found, output.columns(["name", "latest", "python", "created"], rows))


@command(app, "show")
def show(argument: NameArgument = None, name: NameOption = None, version: Version = "latest") -> None:
    """Show a version of an environment."""
    with connect() as client:
        found = client.environments.get(one_of(argument, name), version)
    emit(found, _details(found))


@command(app, "lock")
def lock(argument: NameArgument = None, name: NameOption = None, version: Version = "latest") -> None:
    """Print the lock: exact packages with their hashes."""
    with connect() as client:
        found = client.environments.lock(one_of(argument, name), version)
    emit(found, found.requirements.rstrip("\n"))


@command(app, "build")
def build(
    argument: NameArgument = None,
    name: NameOption = None,
    version: Version = "latest",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Build an environment ahead of its first use."""
    from keelway.errors import raise_unless_succeeded  # noqa: PLC0415  (slow to import)

    with connect() as client:
        operation = client.environments.build(one_of(argument, name), version)
        if not no_wait:
            with Steps() as steps:
                operation = raise_unless_succeeded(client.operations.wait(operation.id, on_change=steps))
    emit(operation, f"operation {operation.id}: {operation.state}")


def _details(found: EnvironmentVersion) -> str:
    return output.fields(
        id=found.id,
        python=found.python_version,
        requirements=found.requirements,
        variables=found.environment_variables,
        lock=found.lock_digest,
        created=f"{output.when(found.created_at)} by {found.created_by}",
    )
