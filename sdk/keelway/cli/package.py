"""`keelway model package` and `keelway package`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keelway.cli import output
from keelway.cli.command import Yes, command, confirm, connect, emit
from keelway.cli.deploy import reference
from keelway.cli.progress import Steps, Transfer

if TYPE_CHECKING:
    from keelway.contracts.packages import Package

app = typer.Typer(name="package", help="Models packaged for use without Keelway.", no_args_is_help=True)

Wanted = Annotated[str, typer.Argument(metavar="PACKAGE", help="Its id, or the name of its image.")]
_IMAGE = "image"


def add_to(model_app: typer.Typer) -> None:
    """Add the command that makes one."""
    command(model_app, "package")(make)


def make(
    *,
    model: Annotated[list[str], typer.Option("-m", "--model", metavar="NAME:VERSION", help="Repeat for several.")],
    inference: Annotated[Path, typer.Option("--ic", "--inference-config-file", help="inferenceconfig.json")],
    dockerfile: Annotated[bool, typer.Option("--dockerfile", help="A folder to build an image from.")] = False,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="Save it there once it is ready.")] = None,
    image_name: Annotated[str, typer.Option("--image-name", help="What its image is called.")] = "package",
    image_label: Annotated[str | None, typer.Option("--image-label", help="Its tag (default: the time).")] = None,
    environment: Annotated[str | None, typer.Option("-e", "--environment-name", help="A registered one.")] = None,
    environment_version: Annotated[str | None, typer.Option("--ev", "--environment-version")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Package models, their script and their environment as an image that runs anywhere, without Keelway."""
    from keelway.cli.configs import read_inference  # noqa: PLC0415  (slow to import)

    if no_wait and to is not None:
        raise typer.BadParameter("--output needs the package to be ready; leave --no-wait away")
    source = read_inference(inference, environment=reference(environment, environment_version))
    with connect() as client:
        with Steps() as steps:
            with steps.step("names and models"):  # first: a wrong name must not leave an environment behind
                found = [client.models.get(each) for each in model]
            with steps.step("snapshot and environment"):
                kind = "dockerfile" if dockerfile else _IMAGE
                handle = client.packages.create(
                    found, source, kind=kind, image_name=image_name, image_label=image_label
                )
            package = handle.package if no_wait else handle.wait(progress=steps)
        if to is not None:
            with Transfer() as transfer:
                client.packages.save(package.id, to, progress=transfer)
    emit(package, _made(package, to))


def _made(package: Package, to: Path | None) -> str:
    if package.state != "ready":
        return f"packaging {package.image}: `keelway operation watch {package.operation}` shows how far it is"
    lines = [f"package {package.id}: {package.image}"]
    if package.pushed:
        lines.append(f"pushed to {package.pushed}")
    lines.append(_next(package, to))
    return "\n".join(lines)


def _next(package: Package, to: Path | None) -> str:
    run = f"docker run -p 6789:5001 {package.image}"
    if package.kind == _IMAGE:
        begin = f"docker load -i {to}" if to else f"keelway package pull {package.id}"
        return f"try it: {begin} && {run}"
    if to:
        return f"try it: docker build -t {package.image} {to} && {run}"
    return f"save it: keelway package save {package.id} -o FOLDER"


@command(app, "list")
def list_(
    model: Annotated[
        str | None, typer.Option("-m", "--model", metavar="NAME:VERSION", help="Only those that hold it.")
    ] = None,
) -> None:
    """List packages, newest first."""
    with connect() as client:
        found = list(client.packages.list(model=model))
    rows = [
        [each.id, each.image, each.kind, each.state, ", ".join(each.models), output.when(each.created_at)]
        for each in found
    ]
    emit(found, output.columns(["id", "image", "kind", "state", "models", "created"], rows))


@command(app, "show")
def show(package: Wanted) -> None:
    """Show a package."""
    with connect() as client:
        found = client.packages.find(package)
    archive = found.archive
    emit(
        found,
        output.fields(
            id=found.id,
            image=found.image,
            kind=found.kind,
            state=f"{found.state} ({found.reason})" if found.reason else found.state,
            models=", ".join(found.models),
            script=found.inference_config.entry_script,
            environment=found.environment,
            base=found.base_image,
            image_id=found.image_id,
            bytes=None if found.size_bytes is None else f"{found.size_bytes:,}",
            archive=f"{archive.size_bytes:,} bytes, sha256 {archive.sha256}" if archive else None,
            pushed=found.pushed,
            operation=found.operation,
            created=f"{output.when(found.created_at)} by {found.created_by}",
        ),
    )


@command(app, "save")
def save(
    package: Wanted,
    to: Annotated[Path, typer.Option("--output", "-o", help="The tar, or for a Dockerfile the folder, to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Save a package: an image as a tar that `docker load` reads, a Dockerfile with all it needs as a folder."""
    with connect() as client, Transfer() as transfer:
        found = client.packages.find(package)
        path = client.packages.save(found.id, to, exist_ok=force, progress=transfer)
    emit({"path": str(path), "package": found.id}, f"saved {path}\n{_next(found, path)}")


@command(app, "pull")
def pull(package: Wanted) -> None:
    """Have this machine's container engine load a package's image."""
    with connect() as client, Transfer() as transfer:
        name = client.packages.pull(client.packages.find(package).id, progress=transfer)
    emit({"image": name}, f"loaded {name}: docker run -p 6789:5001 {name}")


@command(app, "sbom")
def sbom(package: Wanted) -> None:
    """Show what is in a package, as CycloneDX JSON."""
    with connect() as client:
        document = client.packages.sbom(client.packages.find(package).id)
    emit(document, output.as_json_text(document))


@command(app, "registry")
def registry(package: Wanted) -> None:
    """Show where a package's image, or the one that its Dockerfile starts from, can be had, and as whom."""
    with connect() as client:
        found = client.packages.registry(client.packages.find(package).id)
    emit(
        found,
        output.fields(address=found.address, image=found.image, username=found.username, password=found.password),
    )


@command(app, "delete")
def delete(package: Wanted, yes: Yes = False) -> None:
    """Delete a package and its files. Images that were loaded or pushed elsewhere stay."""
    with connect() as client:
        found = client.packages.find(package)
        confirm(f"Delete package {found.image} ({found.id})?", yes=yes)
        client.packages.delete(found.id)
    emit({"deleted": found.id}, f"deleted {found.image} ({found.id})")
