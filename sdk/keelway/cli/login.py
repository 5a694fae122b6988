"""`keelway login` and `keelway whoami`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from keelway import context
from keelway.cli import output
from keelway.cli.command import command, connect, emit, workspace

if TYPE_CHECKING:
    from keelway.contracts.access import Grant


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "login")(login)
    command(app, "whoami")(whoami)


def login(
    url: Annotated[str, typer.Argument(help="Address of the API, e.g. http://127.0.0.1:7300")],
    token: Annotated[str | None, typer.Option("--token", help="Asked for when left out.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the context (default: host:port).")] = None,
) -> None:
    """Check a token and make this address the current context."""
    from keelway.client import Client  # noqa: PLC0415  (slow to import)

    secret = token or typer.prompt("Token", hide_input=True, err=True)
    with Client(url, secret.strip(), workspace=workspace() or "default") as client:
        me = client.whoami()
        saved = context.save(name or urlsplit(url).netloc, url, secret.strip(), client.workspace)
    document = {"context": saved.name, "url": saved.url, "workspace": saved.workspace, "name": me.name}
    emit(document, f"logged in to {saved.url} as {me.name}, workspace {saved.workspace}; kept in {context.file()}")


def whoami() -> None:
    """Show who the API thinks you are, and where it is."""
    with connect() as client:
        me = client.whoami()
        document = {"url": client.url, "workspace": client.workspace, **me.model_dump(mode="json")}
        roles = [_role(grant) for grant in me.grants]
        shown = {"url": client.url, "workspace": client.workspace, "keelway": me.keelway_version}
        emit(document, output.fields(name=me.name, roles=roles, **shown))


def _role(grant: Grant) -> str:
    return f"{grant.role} in {grant.workspace}" if grant.workspace else f"{grant.role} everywhere"
