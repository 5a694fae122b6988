"""`keelway service`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keelway.cli import output
from keelway.cli.command import NameArgument, NameOption, Yes, as_json, command, confirm, connect, emit, one_of, pairs
from keelway.cli.progress import Steps
from keelway.errors import InvalidInput, ScoringError, Unreachable, raise_unless_succeeded

if TYPE_CHECKING:
    from keelway.contracts.services import Revision, Service

app = typer.Typer(name="service", help="Web services: what runs, what it says.", no_args_is_help=True)


@command(app, "list")
def list_() -> None:
    """List services."""
    with connect() as client:
        found = list(client.services.list())
    rows = [[s.name, s.state, s.target, s.scoring_uri] for s in found]
    emit(found, output.columns(["name", "state", "target", "scoring uri"], rows))


@command(app, "show")
def show(argument: NameArgument = None, name: NameOption = None) -> None:
    """Show a service, its revisions and replicas."""
    with connect() as client:
        found = client.services.get(one_of(argument, name))
    emit(found, _details(found))


@command(app, "run")
def run(
    body: Annotated[str, typer.Option("-d", "--input-data", help="JSON, or @FILE with the request's body.")],
    argument: NameArgument = None,
    name: NameOption = None,
) -> None:
    """Send a request to a service and print its answer."""
    payload = _payload(body)
    with connect() as client:
        service = client.services.get(one_of(argument, name))
        try:
            answer = client.services.score(service.scoring_uri, payload)
        except (ScoringError, Unreachable):
            if service.state != "healthy":
                output.note(
                    f"service {service.name} is {service.state}" + (f": {service.reason}" if service.reason else "")
                )
            raise
    if isinstance(answer, bytes) and not as_json():
        sys.stdout.buffer.write(answer)
        return
    print(output.as_json_text(answer))


@command(app, "logs")
def logs(
    argument: NameArgument = None,
    name: NameOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as more is written.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=1, help="Only the last lines.")] = None,
    replica: Annotated[str | None, typer.Option("--replica")] = None,
) -> None:
    """Print what a service's replicas wrote."""
    if follow and as_json():
        raise typer.BadParameter("--json prints one document, which --follow never ends")
    service = one_of(argument, name)
    with connect() as client:
        pieces = client.services.logs(service, tail=tail, follow=follow, replica=replica)
        if as_json():
            emit({"name": service, "text": "".join(pieces)}, "")
            return
        for piece in pieces:
            print(piece, end="", flush=True)


@command(app, "update")
def update(
    *,
    argument: NameArgument = None,
    name: NameOption = None,
    model: Annotated[
        list[str] | None, typer.Option("-m", "--model", metavar="NAME:VERSION", help="All, not only new ones.")
    ] = None,
    inference: Annotated[Path | None, typer.Option("--ic", "--inference-config-file")] = None,
    deployment: Annotated[Path | None, typer.Option("--dc", "--deploy-config-file")] = None,
    environment: Annotated[str | None, typer.Option("-e", "--environment-name", help="A registered one.")] = None,
    environment_version: Annotated[str | None, typer.Option("--ev", "--environment-version")] = None,
    description: Annotated[str | None, typer.Option("--description")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K=V", help="Set this tag.")] = None,
    remove_tag: Annotated[list[str] | None, typer.Option("--remove-tag", metavar="K")] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", metavar="K=V", help="Add, never change.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Change a service; what is not named stays. It goes on serving as it is until the new revision answers."""
    from keelway.cli.configs import read_deployment, read_inference  # noqa: PLC0415  (slow to import)
    from keelway.cli.deploy import reference  # noqa: PLC0415

    service, chosen = one_of(argument, name), reference(environment, environment_version)
    if chosen is not None and inference is None:
        raise typer.BadParameter("-e goes with --ic")
    tags, added = pairs(tag, option="--tag"), pairs(property_, option="--property")
    with connect() as client, Steps() as steps:
        seen = client.services.get(service)
        given: dict[str, Any] = {
            "models": model or None,
            "inference": read_inference(inference, environment=chosen) if inference else None,
            "deployment": read_deployment(deployment) if deployment else None,
            "description": description,
            "tags": {k: v for k, v in {**seen.tags, **tags}.items() if k not in (remove_tag or ())}
            if tag or remove_tag
            else None,
            "properties": added or None,
        }
        given = {key: value for key, value in given.items() if value is not None}
        if not given:
            raise typer.BadParameter("say what should change: -m, --ic, --dc, --description, --tag or --property")
        handle = client.services.update(service, etag=seen.etag, **given)
        changed = handle.service if no_wait else handle.wait(progress=steps)
    emit(changed, _changed(changed, handle.operation_id, no_wait=no_wait))


@command(app, "rollback")
def rollback(
    argument: NameArgument = None,
    name: NameOption = None,
    to: Annotated[str | None, typer.Option("--to", metavar="REVISION", help="Another than the one before.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Have a service run once more what it ran before, as a new revision."""
    with connect() as client, Steps() as steps:
        handle = client.services.rollback(one_of(argument, name), to)
        changed = handle.service if no_wait else handle.wait(progress=steps)
    emit(changed, _changed(changed, handle.operation_id, no_wait=no_wait))


@command(app, "restart")
def restart(
    argument: NameArgument = None,
    name: NameOption = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Have a service run what it runs in new replicas; the old ones stop when those answer."""
    with connect() as client, Steps() as steps:
        handle = client.services.restart(one_of(argument, name))
        changed = handle.service if no_wait else handle.wait(progress=steps)
    emit(changed, _changed(changed, handle.operation_id, no_wait=no_wait))


@command(app, "delete")
def delete(
    argument: NameArgument = None,
    name: NameOption = None,
    yes: Yes = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Take a service down and forget it."""
    service = one_of(argument, name)
    confirm(f"Delete service {service}?", yes=yes)
    with connect() as client:
        operation = client.services.delete(service)
        if not no_wait:
            with Steps() as steps:
                operation = raise_unless_succeeded(client.operations.wait(operation.id, on_change=steps))
    emit(operation, f"{'deleting' if no_wait else 'deleted'} service {service}")


def _payload(text: str) -> str | bytes:
    """JSON text stays text (so it is sent as JSON), a file that is not JSON goes as bytes."""
    import json  # noqa: PLC0415

    try:
        content = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
    except OSError as error:
        raise InvalidInput(f"{text[1:]} cannot be read: {error.strerror}") from error
    try:
        json.loads(content)
    except ValueError as error:
        if text.startswith("@"):
            return content
        raise InvalidInput(f"the request's body is not JSON ({error}); a file of any kind goes with @FILE") from error
    return content.decode()


def _changed(service: Service, operation: str | None, *, no_wait: bool) -> str:
    if operation is None:
        return f"service {service.name}: nothing of what runs is another"
    if no_wait:
        return f"changing {service.name}: `keelway operation watch {operation}` shows how far it is"
    serving = next((each.name for each in service.revisions if each.traffic), "no revision")
    return f"service {service.name} is {service.state}, {serving} serves"


def _since(revision: Revision) -> str:
    return output.when(revision.served_at) if revision.served_at else "never"


def _details(found: Service) -> str:
    head = output.fields(
        name=found.name,
        state=found.state,
        reason=found.reason,
        target=found.target,
        scoring_uri=found.scoring_uri,
        swagger_uri=found.swagger_uri,
        description=found.description,
        tags=found.tags,
        properties=found.properties,
        operation=found.operation,
        created=f"{output.when(found.created_at)} by {found.created_by}",
    )
    revisions = [
        [one.name, f"{one.traffic}%", ", ".join(one.models), one.environment, _since(one), one.created_by]
        for one in found.revisions
    ]
    replicas = [[r.name, r.revision, r.node, r.state, r.restarts, r.reason] for r in found.replicas]
    tables = [
        output.columns(["revision", "traffic", "models", "environment", "served from", "by"], revisions),
        output.columns(["replica", "revision", "node", "state", "restarts", "reason"], replicas),
    ]
    return "\n\n".join([head, *tables])
