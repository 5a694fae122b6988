"""`keelway model deploy`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keelway.cli import output
from keelway.cli.command import command, connect, emit
from keelway.cli.progress import Steps

if TYPE_CHECKING:
    from keelway.client import Client
    from keelway.contracts.services import DeploymentConfig, Service
    from keelway.inference import InferenceSource
    from keelway.resources.services import ServiceHandle

_LONGEST_NAME = 32
_SHORTEST_NAME = 3


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "deploy")(deploy)


def deploy(
    *,
    model: Annotated[list[str], typer.Option("-m", "--model", metavar="NAME:VERSION", help="Repeat for several.")],
    inference: Annotated[Path, typer.Option("--ic", "--inference-config-file", help="inferenceconfig.json")],
    name: Annotated[str | None, typer.Option("-n", "--name", help="Service name (default: from the model's).")] = None,
    deployment: Annotated[
        Path | None, typer.Option("--dc", "--deploy-config-file", help="deploymentconfig.json")
    ] = None,
    environment: Annotated[str | None, typer.Option("-e", "--environment-name", help="A registered one.")] = None,
    environment_version: Annotated[str | None, typer.Option("--ev", "--environment-version")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Update a service of that name.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Deploy models behind an entry script, and wait until the service answers."""
    from keelway.cli.configs import read_deployment, read_inference  # noqa: PLC0415  (slow to import)

    source = read_inference(inference, environment=reference(environment, environment_version))
    target = read_deployment(deployment)
    if name is None:
        name = service_name(model[0].partition(":")[0])
        output.note(f"service name: {name}")
    with connect() as client, Steps() as steps:
        handle = _start(client, steps, name=name, models=model, source=source, target=target, overwrite=overwrite)
        service = handle.service if no_wait else handle.wait(progress=steps)
    emit(service, _text(service, no_wait=no_wait))


def service_name(model: str) -> str:
    """A valid service name from a model's: lower case, `-` for what is not allowed, 3 to 32 characters."""
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"model-{name}"
    name = name[:_LONGEST_NAME].rstrip("-")
    return name if len(name) >= _SHORTEST_NAME else f"{name}-service"


def _start(
    client: Client,
    steps: Steps,
    *,
    name: str,
    models: list[str],
    source: InferenceSource,
    target: DeploymentConfig,
    overwrite: bool,
) -> ServiceHandle:
    from keelway.resources.inference import (  # noqa: PLC0415  (slow to import)
        inference_config,
        make_environment,
        upload_source,
    )

    with steps.step("names and models"):  # first: a wrong name must not leave an environment behind
        exists = client.services.check_name(name, may_exist=overwrite)
        found = [client.models.get(model) for model in models]
    with steps.step("snapshot of the source directory"):
        snapshot = upload_source(client, source)
    with steps.step("environment"):
        environment = make_environment(client, name, source)
    with steps.step("request"):
        inference = inference_config(source, snapshot=snapshot, environment=environment)
        if exists:
            return client.services.update(name, models=found, inference=inference, deployment=target)
        return client.services.deploy(name, found, inference, target)


def reference(environment: str | None, version: str | None) -> str | None:
    """The environment that -e and --ev name."""
    if environment is None:
        if version is not None:
            raise typer.BadParameter("--ev goes with -e")
        return None
    if version is not None and ":" in environment:
        raise typer.BadParameter("give the environment's version once, in -e or with --ev")
    return f"{environment}:{version}" if version else environment


def _text(service: Service, *, no_wait: bool) -> str:
    if no_wait:
        return f"deploying {service.name}: `keelway operation watch {service.operation}` shows how far it is"
    curl = f"curl -s {service.scoring_uri} -H 'Content-Type: application/json' -d '{{\"data\": [[...]]}}'"
    return f"service {service.name} is {service.state}\nscoring uri: {service.scoring_uri}\ntry it: {curl}"
