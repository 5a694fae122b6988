"""`keelway environment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keelway.cli import output
from keelway.cli.command import NameArgument, NameOption, command, connect, emit, one_of, pairs
from keelway.cli.lock_page import diff_page, lock_page
from keelway.cli.progress import Steps, Transfer

if TYPE_CHECKING:
    from keelway.client import Client
    from keelway.contracts.environments import EnvironmentVersion
    from keelway.contracts.images import RegistryCredentials
    from keelway.contracts.operations import Operation

app = typer.Typer(name="environment", help="The packages that scripts run with, locked.", no_args_is_help=True)

Version = Annotated[str, typer.Option("--version", "-v", help="A number or `latest`; NAME:VERSION works too.")]
SourceFile = Annotated[Path | None, typer.Option("--file", help="The Environment JSON of the Azure ML SDK v1.")]
CondaFile = Annotated[Path | None, typer.Option("--conda-file", "-f", help="A conda environment file.")]
Requirements = Annotated[
    Path | None, typer.Option("--pip-requirements", "-r", help="A requirements file; an empty one is scoring alone.")
]
Wheels = Annotated[
    list[Path] | None,
    typer.Option("--wheel", help="A package of your own, uploaded and installed. Repeat for several."),
]
PasswordFile = Annotated[
    Path | None, typer.Option("--registry-password-file", help="Holds the password; it is never shown again.")
]
UserManaged = Annotated[bool, typer.Option("--user-managed", help="The image's own Python, with nothing added.")]
RealAzureml = Annotated[
    bool, typer.Option("--real-azureml", help="Install azureml-defaults and the like; else the runtime stands in.")
]


@command(app, "register")
def register(
    *,
    argument: NameArgument = None,
    name: NameOption = None,
    file: SourceFile = None,
    conda_file: CondaFile = None,
    pip_requirements: Requirements = None,
    python: Annotated[str | None, typer.Option("--python", help="Python version, e.g. 3.11, over the file's.")] = None,
    variable: Annotated[list[str] | None, typer.Option("--variable", metavar="K=V")] = None,
    wheel: Wheels = None,
    base_image: Annotated[str | None, typer.Option("--base-image", help="The image to start from.")] = None,
    registry: Annotated[str | None, typer.Option("--registry", help="Where the image comes from.")] = None,
    registry_username: Annotated[str | None, typer.Option("--registry-username")] = None,
    registry_password_file: PasswordFile = None,
    dockerfile: Annotated[Path | None, typer.Option("--dockerfile", help="How the image is made.")] = None,
    build_context: Annotated[Path | None, typer.Option("--build-context", help="A folder with a Dockerfile.")] = None,
    user_managed: UserManaged = False,
    real_azureml: RealAzureml = False,
) -> None:
    """Resolve what is asked for to a lock. The same content gives the version that is there already."""
    common: dict[str, Any] = {
        "python_version": python,
        "environment_variables": pairs(variable, option="--variable"),
        "wheels": wheel or [],
        "real_azureml": real_azureml,
    }
    parts: dict[str, Any] = {
        "conda_file": conda_file,
        "pip_requirements": pip_requirements,
        "base_image": base_image,
        "base_image_registry": _credentials(registry, registry_username, registry_password_file),
        "dockerfile": dockerfile,
        "build_context": build_context,
        "user_managed_dependencies": user_managed,
    }
    _check_source(file, {key: value for key, value in parts.items() if value}, has_wheels=bool(wheel))
    with connect() as client, Transfer() as progress:
        if file is not None:
            given = one_of(argument, name) if argument or name else None
            version = client.environments.register_definition(file, given, progress=progress, **common)
        else:
            version = client.environments.register(one_of(argument, name), progress=progress, **common, **parts)
    for line in version.notes:
        output.note(f"note: {line}")
    emit(version, f"registered {version.id} ({_python(version)})")


def _check_source(file: Path | None, parts: dict[str, Any], *, has_wheels: bool) -> None:
    if file is not None and parts:
        raise typer.BadParameter(f"--file says all: leave out {', '.join(_option(part) for part in parts)}")
    if "conda_file" in parts and "pip_requirements" in parts:
        raise typer.BadParameter("give one of --conda-file and --pip-requirements")
    sources = {"conda_file", "pip_requirements", "user_managed_dependencies"}
    if file is None and not has_wheels and not sources & parts.keys():
        raise typer.BadParameter("give one of --file, --conda-file, --pip-requirements, --wheel and --user-managed")


def _option(part: str) -> str:
    named = {"base_image_registry": "registry", "user_managed_dependencies": "user-managed"}
    return f"--{named.get(part, part.replace('_', '-'))}"


def _credentials(address: str | None, username: str | None, password_file: Path | None) -> RegistryCredentials | None:
    if address is None and username is None and password_file is None:
        return None
    if address is None or username is None or password_file is None:
        raise typer.BadParameter("give all of --registry, --registry-username and --registry-password-file")
    from keelway.contracts.images import RegistryCredentials  # noqa: PLC0415  (slow to import)
    from keelway.resources.base import checked  # noqa: PLC0415

    password = password_file.read_text(encoding="utf-8").rstrip("\r\n")
    return checked(RegistryCredentials, address=address, username=username, password=password)


@command(app, "list")
def list_() -> None:
    """List environments with their latest version."""
    with connect() as client:
        found = list(client.environments.list())
    rows = [[e.name, e.latest.version, _short_python(e.latest), output.when(e.latest.created_at)] for e in found]
    emit(found, output.columns(["name", "latest", "python", "created"], rows))


@command(app, "show")
def show(
    argument: NameArgument = None,
    name: NameOption = None,
    version: Version = "latest",
    definition: Annotated[
        bool, typer.Option("--definition", help="As the Environment JSON of the Azure ML SDK v1.")
    ] = False,
) -> None:
    """Show a version of an environment."""
    with connect() as client:
        if definition:
            document = client.environments.definition(one_of(argument, name), version)
            emit(document, output.as_json_text(document))
            return
        found = client.environments.get(one_of(argument, name), version)
    emit(found, _details(found))


@command(app, "lock")
def lock(
    argument: NameArgument = None,
    name: NameOption = None,
    version: Version = "latest",
    diff: Annotated[
        tuple[str, str] | None, typer.Option("--diff", metavar="FROM TO", help="What differs between two versions.")
    ] = None,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Only the pip part, with hashes, as uv and pip read it.")
    ] = False,
) -> None:
    """Show the lock: the exact packages of every build of a version."""
    with connect() as client:
        if diff is not None:
            changes = client.environments.lock_diff(one_of(argument, name), *diff)
            emit(changes, diff_page(changes))
            return
        _show_lock(client, one_of(argument, name), version, only_requirements=requirements)


def _show_lock(client: Client, name: str, version: str, *, only_requirements: bool) -> None:
    found = client.environments.lock(name, version)
    emit(found, found.requirements.rstrip("\n") if only_requirements else lock_page(found))


@command(app, "build")
def build(
    *,
    argument: NameArgument = None,
    name: NameOption = None,
    version: Version = "latest",
    image: Annotated[bool, typer.Option("--image", help="Build a container image of it.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Show what the build writes, line by line.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only start it.")] = False,
) -> None:
    """Build an environment ahead of its first use, on a node or as an image. What is there already is not built again.

    What a build writes goes to standard error; `keelway operation logs` shows it later too.
    """
    from keelway.errors import raise_unless_succeeded  # noqa: PLC0415  (slow to import)

    with connect() as client:
        wanted = one_of(argument, name)
        operation = client.environments.build(wanted, version, target="docker" if image else "process")
        if log and not no_wait:
            for text in client.operations.logs(operation.id, follow=True):
                output.note(text.rstrip("\n"))
        if not no_wait:
            with Steps() as steps:
                operation = raise_unless_succeeded(client.operations.wait(operation.id, on_change=steps))
    emit(operation, _built(operation, is_image=image))


def _built(operation: Operation, *, is_image: bool) -> str:
    said = f"operation {operation.id}: {operation.state}"
    result = operation.result or {}
    if not is_image or not result:
        return said
    pushed = f"\npushed to {result['pushed']}" if result.get("pushed") else ""
    return f"{said}\nimage {result['name']} ({result['size_bytes']:,} bytes){pushed}"


def _python(found: EnvironmentVersion) -> str:
    if not found.python_version:
        return "the image's own Python"
    return "Python 3.9 or later" if found.python_version == "3" else f"Python {found.python_version}"


def _short_python(found: EnvironmentVersion) -> str:
    return {"": "image's", "3": "3.9+"}.get(found.python_version, found.python_version)


def _details(found: EnvironmentVersion) -> str:
    context, registry = found.build_context, found.base_image_registry
    return output.fields(
        id=found.id,
        python=_python(found),
        platform=found.platform,
        requirements=found.requirements,
        conda_packages=found.conda_packages,
        channels=found.channels,
        wheels=found.wheels,
        base_image=found.base_image,
        registry=f"{registry.address} as {registry.username}" if registry else None,
        dockerfile=found.dockerfile,
        build_context=f"{context.dockerfile} in snapshot {context.snapshot}" if context else None,
        variables=found.environment_variables,
        azureml="the real packages" if found.real_azureml else None,
        notes=found.notes,
        lock=found.lock_digest,
        created=f"{output.when(found.created_at)} by {found.created_by}",
        curated="by Keelway; read-only" if found.is_curated else None,
    )
