"""`keelway run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from keelway.cli import output
from keelway.cli.command import command, connect, emit, pairs
from keelway.cli.progress import Transfer

if TYPE_CHECKING:
    from keelway.contracts.experiments import Metric, Run
    from keelway.contracts.files import FileEntry

app = typer.Typer(name="run", help="Runs of experiments: what they measured and left.", no_args_is_help=True)

Goal = Literal["minimize", "maximize"]
End = Literal["completed", "failed", "cancelled"]
State = Literal["running", "completed", "failed", "cancelled"]
ExperimentOption = Annotated[str, typer.Option("-e", "--experiment-name", "--experiment", help="Its experiment.")]
RunOption = Annotated[str, typer.Option("-r", "--run-id", "--run", help="Its id.")]


@command(app, "create")
def create(
    *,
    experiment: ExperimentOption,
    run: Annotated[str | None, typer.Option("-r", "--run-id", "--run", help="Its id; made up unless given.")] = None,
    parent: Annotated[str | None, typer.Option("--parent", help="Id of the run that it is a try of.")] = None,
    iteration: Annotated[int | None, typer.Option("--iteration", min=0, help="Its number among the tries.")] = None,
    primary_metric: Annotated[str | None, typer.Option("--primary-metric", help="What its tries compare by.")] = None,
    goal: Annotated[Goal | None, typer.Option("--goal", help="Which value of that is the better one.")] = None,
    display_name: Annotated[str, typer.Option("--display-name")] = "",
    description: Annotated[str, typer.Option("-d", "--description")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K=V")] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", metavar="K=V")] = None,
) -> None:
    """Begin a run; its experiment is made with its first run."""
    tags, properties = pairs(tag, option="--tag"), pairs(property_, option="--property")
    with connect() as client:
        made = client.runs.create(
            experiment,
            id=run,
            parent=parent,
            iteration=iteration,
            primary_metric=primary_metric,
            goal=goal,
            display_name=display_name,
            description=description,
            tags=tags,
            properties=properties,
        ).run
    emit(made, f"began {made.experiment}/{made.id}")


@command(app, "list")
def list_(
    *,
    experiment: ExperimentOption,
    state: Annotated[State | None, typer.Option("--state", help="Only in this state.")] = None,
    parent: Annotated[str | None, typer.Option("--parent", help="Only the tries of this run.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K[=V]", help="Only with this tag.")] = None,
) -> None:
    """List the runs of an experiment, newest first."""
    with connect() as client:
        found = list(client.runs.list(experiment, state=state, parent=parent, tags=tag or ()))
    rows = [[r.id, r.state, r.parent or "", _number(r), _metrics(r), output.when(r.created_at)] for r in found]
    emit(found, output.columns(["id", "state", "parent", "iteration", "metrics", "created"], rows))


@command(app, "show")
def show(*, experiment: ExperimentOption, run: RunOption) -> None:
    """Show a run, its last metrics and its outputs."""
    with connect() as client:
        found, files = client.runs.get(experiment, run), list(client.runs.outputs(experiment, run))
    document = {**found.model_dump(mode="json"), "outputs": [file.model_dump(mode="json") for file in files]}
    emit(document, _page(found, files))


@command(app, "upload")
def upload(
    *,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")],
    experiment: ExperimentOption,
    run: RunOption,
    to: Annotated[str, typer.Option("--to", help="A folder among the outputs.")] = "",
) -> None:
    """Add files and folders to a run's outputs, under their own names."""
    with connect() as client, Transfer() as transfer:
        for path in paths:
            client.runs.upload(experiment, run, path, to=to, progress=transfer)
        files = list(client.runs.outputs(experiment, run))
    emit(files, f"{experiment}/{run} has {len(files)} output(s)")


@command(app, "metric")
def metric(
    *,
    values: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="None: list them.")] = None,
    experiment: ExperimentOption,
    run: RunOption,
    step: Annotated[int | None, typer.Option("--step", min=0, help="How far the run had come.")] = None,
) -> None:
    """Report metrics of a run, or list every value that was reported."""
    numbers = {name: _value(name, text) for name, text in pairs(values, option="NAME=VALUE").items()}
    with connect() as client:
        if numbers:
            found = client.runs.log(experiment, run, numbers, step=step)
            emit(found, _metrics(found))
            return
        reported = list(client.runs.metrics(experiment, run))
    emit(reported, _table(reported))


@command(app, "finish")
def finish(
    *,
    experiment: ExperimentOption,
    run: RunOption,
    state: Annotated[End, typer.Option("--state", help="How it ended.")] = "completed",
) -> None:
    """End a run: nothing is added to it any more."""
    with connect() as client:
        found = client.runs.finish(experiment, run, state)
    emit(found, f"{found.experiment}/{found.id} is {found.state}")


@command(app, "register-best")
def register_best(
    *,
    experiment: ExperimentOption,
    run: RunOption,
    asset_path: Annotated[str, typer.Option("--asset-path", help="A file or folder among the try's outputs.")],
    name: Annotated[str | None, typer.Option("-n", "--name", help="Name of the model; made up unless given.")] = None,
    iteration: Annotated[int | None, typer.Option("--iteration", min=0, help="The try of this number.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="The best try by this, not the primary one.")] = None,
    goal: Annotated[Goal | None, typer.Option("--goal", help="Which value of that is the better one.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="K=V")] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", metavar="K=V")] = None,
    description: Annotated[str, typer.Option("-d", "--description")] = "",
) -> None:
    """Register a model from one of a run's tries: the best, or that of an iteration."""
    tags, properties = pairs(tag, option="--tag"), pairs(property_, option="--property")
    with connect() as client:
        version = client.runs.register_best(
            *(experiment, run, asset_path),
            name=name,
            iteration=iteration,
            metric=metric,
            goal=goal,
            tags=tags,
            properties=properties,
            description=description,
        )
    emit(version, f"registered {version.id} of {version.run} ({output.size(version.size_bytes)})")


def _value(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a number", param_hint=name) from error


def _number(run: Run) -> str:
    return "" if run.iteration is None else str(run.iteration)


def _metrics(run: Run) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in sorted(run.metrics.items()))


def _table(reported: list[Metric]) -> str:
    rows = [[m.name, m.value, "" if m.step is None else m.step, output.when(m.at)] for m in reported]
    return output.columns(["metric", "value", "step", "at"], rows)


def _page(run: Run, files: list[FileEntry]) -> str:
    head = output.fields(
        run=f"{run.experiment}/{run.id}",
        name=run.display_name,
        state=run.state,
        parent=run.parent,
        iteration=_number(run),
        description=run.description,
        compared_by=f"{run.primary_metric} ({run.goal})" if run.primary_metric else "",
        metrics=_metrics(run),
        tags=run.tags,
        properties=run.properties,
        model=run.model_id,
        created=f"{output.when(run.created_at)} by {run.created_by}",
        ended=output.when(run.ended_at),
    )
    rows = [[file.path, output.size(file.size_bytes), file.sha256] for file in files]
    return f"{head}\n\n{output.columns(['output', 'size', 'sha256'], rows)}"
