"""`keelway model`; `deploy` is in a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keelway.cli import output
from keelway.cli.command import command, connect, emit, one_of, pairs
from keelway.cli.progress import Transfer

if TYPE_CHECKING:
    from keelway.contracts.models import Model, ModelVersion, ResourceRequirements

app = typer.Typer(name="model", help="Register models, find them, get them back.", no_args_is_help=True)

Id = Annotated[str | None, typer.Argument(metavar="NAME:VERSION", help="Without a version: the latest.")]
IdOption = Annotated[str | None, typer.Option("--model-id", "-i", help="The same, as an option.")]


@command(app, "register")
def register(
    *,
    name: Annotated[str, typer.Option("-n", "--name", help="Name of the model.")],
    path: Annotated[Path, typer.Option("-p", "--model-path", "--path", help="A file or a folder.")],
    child_path: Annotated[list[str] | None, typer.Option("--child-path", help="Only this part of the folder.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K=V")] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", metavar="K=V")] = None,
    description: Annotated[str, typer.Option("-d", "--description")] = "",
    framework: Annotated[str | None, typer.Option("--framework")] = None,
    framework_version: Annotated[str | None, typer.Option("--framework-version")] = None,
    cpu: Annotated[float | None, typer.Option("--cpu", help="Cores that serving it takes.")] = None,
    memory_gb: Annotated[float | None, typer.Option("--memory-gb")] = None,
    gpu: Annotated[int | None, typer.Option("--gpu")] = None,
) -> None:
    """Register a file or a folder as a new version of a model."""
    tags, properties = pairs(tag, option="--tag"), pairs(property_, option="--property")
    with connect() as client, Transfer() as transfer:
        version = client.models.register(
            name,
            path,
            child_paths=child_path or (),
            tags=tags,
            properties=properties,
            description=description,
            framework=framework,
            framework_version=framework_version,
            resource_requirements=_requirements(cpu, memory_gb, gpu),
            progress=transfer,
        )
    emit(version, f"registered {version.id} ({len(version.files)} file(s), {output.size(version.size_bytes)})")


@command(app, "list")
def list_(
    name: Annotated[str | None, typer.Option("-n", "--name", help="All versions of this model.")] = None,
) -> None:
    """List models with their latest version, or all versions of one."""
    with connect() as client:
        if name:
            versions = list(client.models.versions(name))
            emit(versions, _table(versions))
            return
        found = list(client.models.list())
    emit(found, _model_table(found))


@command(app, "show")
def show(argument: Id = None, model_id: IdOption = None) -> None:
    """Show a version of a model and its files."""
    with connect() as client:
        version = client.models.get(one_of(argument, model_id, what="NAME:VERSION"))
    emit(version, _details(version))


@command(app, "download")
def download(
    argument: Id = None,
    model_id: IdOption = None,
    target_dir: Annotated[Path, typer.Option("--target-dir", "-t", help="Where to put it.")] = Path(),
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace files that are there.")] = False,
) -> None:
    """Download a version; every file is verified before it is put in place."""
    with connect() as client:
        version = client.models.get(one_of(argument, model_id, what="NAME:VERSION"))
        with Transfer() as transfer:
            path = client.models.download(
                version.name, version.version, target_dir, exist_ok=exist_ok, progress=transfer
            )
    emit({"id": version.id, "path": str(path)}, str(path))


def _requirements(cpu: float | None, memory_gb: float | None, gpu: int | None) -> ResourceRequirements | None:
    from keelway.contracts.models import ResourceRequirements  # noqa: PLC0415  (slow to import)
    from keelway.resources.base import checked  # noqa: PLC0415

    if cpu is None and memory_gb is None and gpu is None:
        return None
    return checked(ResourceRequirements, cpu=cpu, memory_gb=memory_gb, gpu=gpu)


def _table(versions: list[ModelVersion]) -> str:
    rows = [[v.id, v.state, output.size(v.size_bytes), v.framework or "", output.when(v.created_at)] for v in versions]
    return output.columns(["id", "state", "size", "framework", "created"], rows)


def _model_table(models: list[Model]) -> str:
    rows = [
        [m.name, m.latest.version, output.size(m.latest.size_bytes), output.when(m.latest.created_at)]
        if m.latest
        else [m.name, "-", "-", output.when(m.created_at)]
        for m in models
    ]
    return output.columns(["name", "latest", "size", "created"], rows)


def _details(version: ModelVersion) -> str:
    framework = f"{version.framework or ''} {version.framework_version or ''}".strip()
    head = output.fields(
        id=version.id,
        state=version.state,
        description=version.description,
        framework=framework,
        tags=version.tags,
        properties=version.properties,
        size=output.size(version.size_bytes),
        digest=version.digest,
        used_by=version.used_by,
        created=f"{output.when(version.created_at)} by {version.created_by}",
    )
    rows = [[file.path, output.size(file.size_bytes), file.sha256] for file in version.files]
    return f"{head}\n\n{output.columns(['file', 'size', 'sha256'], rows)}"
