"""`keelway model`; `deploy` is in a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keelway.cli import output
from keelway.cli.command import Yes, command, confirm, connect, emit, one_of, pairs
from keelway.cli.progress import Transfer
from keelway.errors import InvalidInput

if TYPE_CHECKING:
    from keelway.contracts.models import Dataset, Model, ModelVersion, ResourceRequirements

app = typer.Typer(name="model", help="Register models, find them, get them back.", no_args_is_help=True)

_SAMPLE_SHOWN = 200
_FINDINGS_SHOWN = 20

Id = Annotated[str | None, typer.Argument(metavar="NAME:VERSION", help="Without a version: the latest.")]
IdOption = Annotated[str | None, typer.Option("--model-id", "-i", help="The same, as an option.")]


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
) -> None:
    """List models with their latest version, or all versions of one, or of a run."""
    said: dict[str, Any] = {"tags": tag or (), "properties": property_ or (), "framework": framework}
    said |= {"run": run, "dataset": dataset, "safety": safety}
    with connect() as client:
        if name or all_versions or run:
            versions = list(client.models.find_versions(name=name, **said))
            if name and not versions:
                client.models.model(name)  # tells a model that has none such from one that is not there
            emit(versions, _table(versions))
            return
        found = list(client.models.list(**said))
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


@command(app, "verify")
def verify(argument: Id = None, model_id: IdOption = None) -> None:
    """Have every stored byte of a version read again and compared with its sha256; exit 1 when some are damaged."""
    with connect() as client, Transfer() as transfer:
        found = client.models.verify(one_of(argument, model_id, what="NAME:VERSION"), progress=transfer)
    damaged = [f"DAMAGED  {file.path} (sha256 {file.sha256}) {file.damage.text}" for file in found.damaged]
    verdict = f"{len(damaged)} damaged" if damaged else "all as it was registered"
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
    sample_input: Annotated[Path | None, typer.Option("--sample-input", help="JSON file.")] = None,
    sample_output: Annotated[Path | None, typer.Option("--sample-output", help="JSON file.")] = None,
) -> None:
    """Change what is said of a version; its files never change, its properties only grow."""
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
            "sample_input": _json_file(sample_input),
            "sample_output": _json_file(sample_output),
        }
        given = {key: value for key, value in changes.items() if value is not None}
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
    emit(version, _safety(version) + _findings(version))


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


def _requirements(cpu: float | None, memory_gb: float | None, gpu: int | None) -> ResourceRequirements | None:
    from keelway.contracts.models import ResourceRequirements  # noqa: PLC0415  (slow to import)
    from keelway.resources.base import checked  # noqa: PLC0415

    if cpu is None and memory_gb is None and gpu is None:
        return None
    return checked(ResourceRequirements, cpu=cpu, memory_gb=memory_gb, gpu=gpu)


def _table(versions: list[ModelVersion]) -> str:
    rows = [
        [v.id, v.state, output.size(v.size_bytes), v.framework or "", _mark(v), output.when(v.created_at)]
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


def _details(version: ModelVersion) -> str:
    framework = f"{version.framework or ''} {version.framework_version or ''}".strip()
    head = output.fields(
        id=version.id,
        state=version.state,
        aliases=", ".join(version.aliases),
        description=version.description,
        framework=framework,
        needs=_needs(version.resource_requirements),
        tags=version.tags,
        properties=version.properties,
        datasets=", ".join(f"{dataset.id} ({dataset.scenario})" for dataset in version.datasets),
        sample_input=_sample(version.sample_input),
        sample_output=_sample(version.sample_output),
        approval=_approval(version),
        safety=_safety(version),
        run=version.run,
        used_by=version.used_by,
        created=f"{output.when(version.created_at)} by {version.created_by}",
        size=f"{output.size(version.size_bytes)} in {len(version.files)} file(s)",
        digest=version.digest,
    )
    rows = [[file.path, output.size(file.size_bytes), file.sha256] for file in version.files]
    return f"{head}{_findings(version)}\n\n{output.columns(['file', 'size', 'sha256'], rows)}"


def _needs(requirements: ResourceRequirements | None) -> str:
    if requirements is None:
        return ""
    units = {"cpu": "core(s)", "memory_gb": "GB", "gpu": "GPU(s)"}
    return ", ".join(f"{value:g} {units[key]}" for key, value in requirements if value is not None)


def _sample(sample: Any) -> str:
    text = "" if sample is None else json.dumps(sample, ensure_ascii=False)
    return text if len(text) <= _SAMPLE_SHOWN else f"{text[:_SAMPLE_SHOWN]} ... ({output.size(len(text))})"


def _mark(version: ModelVersion) -> str:
    if version.safety is None:
        return "-"
    worst = next((f" ({name}!)" for name in ("danger", "warning") if name in version.safety.findings_by_severity), "")
    return f"{version.safety.label}{worst}"


def _safety(version: ModelVersion) -> str:
    if version.safety is None:
        return "not inspected yet" if version.state == "ready" else ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in version.safety.kinds.items())
    return f"{version.safety.label}: {kinds}; looked at {output.when(version.safety.inspected_at)}"


def _findings(version: ModelVersion) -> str:
    found = version.safety.findings if version.safety else []
    if not found:
        return ""
    rows = [[one.severity.value, one.path, one.code, _cut(one.detail)] for one in found[:_FINDINGS_SHOWN]]
    more = f"\n... and {len(found) - _FINDINGS_SHOWN} more: --json" if len(found) > _FINDINGS_SHOWN else ""
    return f"\n\n{output.columns(['severity', 'in file', 'finding', 'detail'], rows)}{more}"


def _cut(text: str) -> str:
    return text if len(text) <= _SAMPLE_SHOWN else f"{text[:_SAMPLE_SHOWN]} ..."


def _approval(version: ModelVersion) -> str:
    if version.approved_at:
        return f"approved {output.when(version.approved_at)} by {version.approved_by}"
    return "required, not given yet" if version.requires_approval else ""
