"""`keelway image`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keelway.cli import output
from keelway.cli.command import Yes, command, confirm, connect, emit
from keelway.cli.progress import Transfer

app = typer.Typer(name="image", help="Container images of environments.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="As `keelway image list` shows it; its beginning is enough.")]
_SHORT = 12


@command(app, "list")
def list_(
    environment: Annotated[
        str | None, typer.Option("-e", "--environment", help="Only those with a lock of this one.")
    ] = None,
) -> None:
    """List images, newest first."""
    with connect() as client:
        found = list(client.images.list(environment=environment))
    rows = [
        [each.identity[:_SHORT], each.environment, each.python_version, f"{each.size_bytes:,}", each.base_image]
        for each in found
    ]
    emit(found, output.columns(["identity", "environment", "python", "bytes", "base"], rows))


@command(app, "show")
def show(identity: Identity) -> None:
    """Show an image."""
    with connect() as client:
        found = client.images.find(identity)
    emit(
        found,
        output.fields(
            identity=found.identity,
            environment=found.environment,
            name=found.name,
            image_id=found.image_id,
            base=f"{found.base_image} ({found.base_id})",
            python=found.python_version,
            bytes=f"{found.size_bytes:,}",
            archive=f"{found.archive.size_bytes:,} bytes, sha256 {found.archive.sha256}",
            pushed=found.pushed,
            created=f"{output.when(found.created_at)} by {found.created_by}",
        ),
    )


@command(app, "sbom")
def sbom(identity: Identity) -> None:
    """Show what is in an image, as CycloneDX JSON."""
    with connect() as client:
        document = client.images.sbom(client.images.find(identity).identity)
    emit(document, output.as_json_text(document))


@command(app, "delete")
def delete(identity: Identity, yes: Yes = False) -> None:
    """Delete an image and its files. What engines and registries have of it stays."""
    with connect() as client:
        found = client.images.find(identity)
        confirm(f"Delete the image {found.identity[:_SHORT]} of {found.environment}?", yes=yes)
        client.images.delete(found.identity)
    emit({"deleted": found.identity}, f"deleted {found.identity[:_SHORT]}")


@command(app, "save")
def save(
    identity: Identity,
    to: Annotated[Path, typer.Option("--output", "-o", help="The tar to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Save an image as a tar: an OCI layout, which `docker load` reads too."""
    with connect() as client, Transfer() as transfer:
        found = client.images.find(identity)
        path = client.images.download(found.identity, to, exist_ok=force, progress=transfer)
    emit({"path": str(path), **found.archive.model_dump()}, f"saved {path}: docker load -i {path}")
