"""`keelway model`; `deploy` is in a file of its own."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from keelway.cli import model_page, output
from keelway.cli.command import Yes, command, confirm, connect, emit, one_of, pairs
from keelway.cli.progress import Transfer
from keelway.errors import InvalidInput

if TYPE_CHECKING:
    from keelway.contracts.models import Dataset, Model, ModelVersion, ResourceRequirements

app = typer.Typer(name="model", help="Register models, find them, get them back.", no_args_is_help=True)

OrderBy = Literal["created_at", "name", "version"]
Order = Literal["asc", "desc"]
Id = Annotated[str | None, typer.Argument(metavar="NAME:VERSION", help="Without a version: the latest.")]
IdOption = Annotated[str | None, typer.Option("--model-id", "-i", help="The same, as an option.")]

PublicKey = Annotated[
    Path | None, typer.Option("--public-key", help="A PEM file: only what this key has signed is taken for good.")
]


@command(app, "register")
def register(
    *,
    name: Annotated[str, typer.Option("-n", "--name", help="Name of the model.")],
    path: Annotated[Path | None, typer.Option("-p", "--model-path", "--path", help="A file or a folder.")] = None,
    child_path: Annotated[list[str] | None, typer.Option("--child-path", help="Only this part of the folder.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K=V")] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", metavar="K=V")] = None,
    description: Annotated[str, typer.Option("-d", "--description")] = "",
    framework: Annotated[str | None, typer.Option("--framework")] = None,
    framework_version: Annotated[str | None, typer.Option("--framework-version")] = None,
    cpu: Annotated[float | None, typer.Option("--cpu", help="Cores that serving it takes.")] = None,
    memory_gb: Annotated[float | None, typer.Option("--memory-gb")] = None,
    gpu: Annotated[int | None, typer.Option("--gpu")] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", metavar="SCENARIO=ID")] = None,
    sample_input: Annotated[Path | None, typer.Option("--sample-input", help="JSON file: a request it takes.")] = None,
    sample_output: Annotated[Path | None, typer.Option("--sample-output", help="JSON file: what it answers.")] = None,
    requires_approval: Annotated[
        bool, typer.Option("--requires-approval", help="Somebody who may deploy must approve it first.")
    ] = False,
    asset_path: Annotated[
        str | None, typer.Option("--asset-path", help="Instead of -p: a file or folder among a run's outputs.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("-e", "--experiment-name", "--experiment", help="Of the run of --asset-path.")
    ] = None,
    run: Annotated[str | None, typer.Option("-r", "--run-id", "--run", help="The run of --asset-path.")] = None,
) -> None:
    """Register a file, a folder, or what a run left, as a new version of a model."""
    said: dict[str, Any] = {
        "description": description,
        "framework": framework,
        "framework_version": framework_version,
        "resource_requirements": _requirements(cpu, memory_gb, gpu),
        "requires_approval": requires_approval,
        "tags": pairs(tag, option="--tag"),
        "properties": pairs(property_, option="--property"),
        "datasets": _datasets(dataset),
        "sample_input": _json_file(sample_input),
        "sample_output": _json_file(sample_output),
    }
    source = _source(path, child_path, asset_path, experiment, run)
    with connect() as client, Transfer() as transfer:
        if isinstance(source, Path):
            version = client.models.register(name, source, child_paths=child_path or (), progress=transfer, **said)
        else:
            version = client.runs.register(*source, name, asset_path, **said)
    emit(version, f"registered {version.id} ({len(version.files)} file(s), {output.size(version.size_bytes)})")


@command(app, "list")
def list_(
    name: Annotated[str | None, typer.Option("-n", "--name", help="All versions of this model.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K[=V]", help="Only with this tag.")] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", metavar="K[=V]")] = None,
    framework: Annotated[str | None, typer.Option("--framework")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="EXPERIMENT/RUN", help="Versions made of it.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="ID", help="Only with this dataset.")] = None,
    safety: Annotated[
        str | None, typer.Option("--safety", metavar="LABEL", help="inert, executable or not-inspected.")
    ] = None,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Every version of every model.")] = False,
    latest_only: Annotated[
        bool, typer.Option("--latest-only", help="Of versions only the latest of each model.")
    ] = False,
    order_by: Annotated[OrderBy | None, typer.Option("--order-by", help="created_at unless told otherwise.")] = None,
    order: Annotated[Order | None, typer.Option("--order", help="By name asc, else desc.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="How many to show at most; else all.")] = None,
) -> None:
    """List models with their latest version, or all versions of one, or of a run."""
    said: dict[str, Any] = {"tags": tag or (), "properties": property_ or (), "framework": framework}
    said |= {"run": run, "dataset": dataset, "safety": safety, "order_by": order_by, "order": order}
    with connect() as client:
        if name or all_versions or run or latest_only:
            versions = list(islice(client.models.find_versions(name=name, latest_only=latest_only, **said), limit))
            if name and not versions:
                client.models.model(name)  # tells a model that has none such from one that is not there
            emit(versions, _table(versions))
            return
        found = list(islice(client.models.list(**said), limit))
    emit(found, _model_table(found))


@command(app, "show")
def show(argument: Id = None, model_id: IdOption = None) -> None:
    """Show a version of a model and its files."""
    with connect() as client:
        version = client.models.get(one_of(argument, model_id, what="NAME:VERSION"))
    emit(version, model_page.page(version))


@command(app, "files")
def files(argument: Id = None, model_id: IdOption = None) -> None:
    """List all files of a version with their digests."""
    with connect() as client:
        found = list(client.models.files(one_of(argument, model_id, what="NAME:VERSION")))
    emit(found, model_page.files(found))


@command(app, "download")
def download(
    argument: Id = None,
    model_id: IdOption = None,
    target_dir: Annotated[Path, typer.Option("--target-dir", "-t", help="Where to put it.")] = Path(),
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace files that are there.")] = False,
    public_key: PublicKey = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="PATH", help="Only this file, as `model files` names it.")
    ] = None,
    tar: Annotated[bool, typer.Option("--tar", help="One archive, NAME-VERSION.tar, of all files.")] = False,
) -> None:
    """Download a version; it shows once all of it is verified. Run again, it goes on where it broke off."""
    if tar and file is not None:
        raise typer.BadParameter("--tar is all files, --file is one of them")
    with connect() as client:
        version = client.models.get(one_of(argument, model_id, what="NAME:VERSION"))
        how: dict[str, Any] = {"exist_ok": exist_ok, "public_key": _content(public_key)}
        with Transfer() as transfer:
            if tar:
                to = target_dir / f"{version.name}-{version.version}.tar"
                path = client.models.download_archive(version.name, version.version, to, progress=transfer, **how)
            else:
                path = client.models.download(
                    version.name, version.version, target_dir, file=file, progress=transfer, **how
                )
    emit({"id": version.id, "path": str(path)}, str(path))


@command(app, "sign")
def sign(
    argument: Id = None,
    model_id: IdOption = None,
    private_key: Annotated[
        Path | None, typer.Option("--private-key", help="A PEM file with your key: P-256, P-384 or P-521.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="A file with the password of the private key.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Keep this signature, made by model-signing, instead of making one.")
    ] = None,
) -> None:
    """Sign the files of a version; the signature is kept with it, instead of one it has."""
    if (private_key is None) == (bundle is None):
        raise InvalidInput("give --private-key to sign, or --bundle to add a signature that there is")
    key, given, password = _content(private_key), _content(bundle), _content(password_file)
    with connect() as client:
        name = one_of(argument, model_id, what="NAME:VERSION")
        if key is not None:
            signed = client.models.sign(name, private_key=key, password=password.rstrip(b"\r\n") if password else None)
        else:
            seen = client.models.get(name)
            signed = client.models.add_signature(seen.name, seen.version, (given or b"").decode(errors="replace"))
    emit(signed, f"signed {signed.id}, key {signed.signature_key or 'not named'}")


@command(app, "verify")
def verify(argument: Id = None, model_id: IdOption = None, public_key: PublicKey = None) -> None:
    """Have every stored byte of a version read again and compared with its sha256; exit 1 when some are damaged."""
    key = _content(public_key)
    with connect() as client, Transfer() as transfer:
        name = one_of(argument, model_id, what="NAME:VERSION")
        found = client.models.verify(name, public_key=key, progress=transfer)
    damaged = [f"DAMAGED  {file.path} (sha256 {file.sha256}) {file.damage.text}" for file in found.damaged]
    verdict = f"{len(damaged)} damaged" if damaged else "all as it was registered"
    verdict += f", signed with {public_key}" if public_key else ""
    read = f"{found.id}: {found.checked_files} file(s), {output.size(found.checked_bytes)} read, {verdict}"
    emit(found, "\n".join([*damaged, f"digest {found.digest}", read]))
    if damaged:
        raise typer.Exit(1)


@command(app, "update")
def update(
    argument: Id = None,
    model_id: IdOption = None,
    description: Annotated[str | None, typer.Option("-d", "--description")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K=V", help="Set this tag.")] = None,
    remove_tag: Annotated[list[str] | None, typer.Option("--remove-tag", metavar="K")] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", metavar="K=V", help="Add this property.")] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", metavar="SCENARIO=ID", help="Add this one.")] = None,
    cpu: Annotated[float | None, typer.Option("--cpu", help="Cores that serving it takes.")] = None,
    memory_gb: Annotated[float | None, typer.Option("--memory-gb")] = None,
    gpu: Annotated[int | None, typer.Option("--gpu")] = None,
    sample_input: Annotated[Path | None, typer.Option("--sample-input", help="JSON file.")] = None,
    sample_output: Annotated[Path | None, typer.Option("--sample-output", help="JSON file.")] = None,
    remove_sample_input: Annotated[bool, typer.Option("--remove-sample-input")] = False,
    remove_sample_output: Annotated[bool, typer.Option("--remove-sample-output")] = False,
) -> None:
    """Change what is said of a version; its files never change, its properties only grow."""
    if (sample_input and remove_sample_input) or (sample_output and remove_sample_output):
        raise typer.BadParameter("a sample is either given or removed")
    removed: dict[str, Any] = {"sample_input": None} if remove_sample_input else {}
    removed |= {"sample_output": None} if remove_sample_output else {}
    tags, added, datasets = pairs(tag, option="--tag"), pairs(property_, option="--property"), _datasets(dataset)
    with connect() as client:
        seen = client.models.get(one_of(argument, model_id, what="NAME:VERSION"))
        changes: dict[str, Any] = {
            "description": description,
            "tags": {k: v for k, v in {**seen.tags, **tags}.items() if k not in (remove_tag or ())}
            if tag or remove_tag
            else None,
            "properties": added or None,
            "datasets": [*seen.datasets, *datasets] if datasets else None,
            "resource_requirements": _requirements(cpu, memory_gb, gpu, seen.resource_requirements),
            "sample_input": _json_file(sample_input),
            "sample_output": _json_file(sample_output),
        }
        given = {key: value for key, value in changes.items() if value is not None} | removed
        if not given:
            raise typer.BadParameter("say what to change")
        version = client.models.update(seen.name, seen.version, etag=seen.etag, **given)
    emit(version, f"updated {version.id}")


@command(app, "approve")
def approve(argument: Id = None, model_id: IdOption = None) -> None:
    """Let a version be deployed that requires approval."""
    with connect() as client:
        seen = client.models.get(one_of(argument, model_id, what="NAME:VERSION"))
        version = client.models.approve(seen.name, seen.version)
    emit(version, f"approved {version.id}")


@command(app, "inspect")
def inspect(argument: Id = None, model_id: IdOption = None) -> None:
    """Have the files of a version looked at again, without loading them; wait for the result."""
    with connect() as client:
        seen = client.models.get(one_of(argument, model_id, what="NAME:VERSION"))
        client.operations.wait(client.models.inspect(seen.name, seen.version).id)
        version = client.models.get(seen.name, seen.version)
    emit(version, model_page.safety(version))


@command(app, "delete")
def delete(
    argument: Annotated[str | None, typer.Argument(metavar="NAME[:VERSION]", help="Without a version: all.")] = None,
    model_id: IdOption = None,
    yes: Yes = False,
) -> None:
    """Delete a version, or a model with all its versions; what a service or an alias uses stays."""
    name, colon, version = one_of(argument, model_id, what="NAME[:VERSION]").partition(":")
    if colon and not version:  # an empty variable must not delete everything
        raise typer.BadParameter(f"{name}: names no version; leave the colon out to delete the whole model")
    what = f"{name}:{version}" if version else f"{name} with all its versions"
    confirm(f"Delete {what}?", yes=yes)
    with connect() as client:
        client.models.delete(name, version or None)
    emit({"deleted": f"{name}:{version}" if version else name}, f"deleted {what}")


def _source(
    path: Path | None, child_path: list[str] | None, asset_path: str | None, experiment: str | None, run: str | None
) -> Path | tuple[str, str]:
    """What is registered: a path of this machine, or outputs of a run, which is (experiment, id)."""
    if path is not None and asset_path is None and experiment is None and run is None:
        return path
    if path is None and not child_path and experiment and run:
        return experiment, run
    raise typer.BadParameter("give --path, or --experiment-name and --run-id with an --asset-path")


def _datasets(texts: list[str] | None) -> list[Dataset]:
    from keelway.contracts.models import Dataset  # noqa: PLC0415  (slow to import)
    from keelway.resources.base import checked  # noqa: PLC0415

    split = [text.partition("=") for text in texts or []]
    if bad := [text for text, equals, _ in split if not equals]:
        raise typer.BadParameter(f"{bad[0]!r} is not scenario=id", param_hint="--dataset")
    return [checked(Dataset, scenario=scenario, id=id_) for scenario, _, id_ in split]


def _json_file(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON: {error}") from error


def _requirements(
    cpu: float | None, memory_gb: float | None, gpu: int | None, seen: ResourceRequirements | None = None
) -> ResourceRequirements | None:
    """What is given, beside what was said before; None when nothing is."""
    from keelway.contracts.models import ResourceRequirements  # noqa: PLC0415  (slow to import)
    from keelway.resources.base import checked  # noqa: PLC0415

    said = {"cpu": cpu, "memory_gb": memory_gb, "gpu": gpu}
    given = {key: value for key, value in said.items() if value is not None}
    before = seen.model_dump(exclude_none=True) if seen else {}
    return checked(ResourceRequirements, **{**before, **given}) if given else None


def _table(versions: list[ModelVersion]) -> str:
    rows = [
        [v.id, v.state, output.size(v.size_bytes), v.framework or "", model_page.mark(v), output.when(v.created_at)]
        for v in versions
    ]
    return output.columns(["id", "state", "size", "framework", "safety", "created"], rows)


def _model_table(models: list[Model]) -> str:
    rows = [
        [m.name, m.latest.version, output.size(m.latest.size_bytes), output.when(m.latest.created_at)]
        if m.latest
        else [m.name, "-", "-", output.when(m.created_at)]
        for m in models
    ]
    return output.columns(["name", "latest", "size", "created"], rows)


def _content(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from None
