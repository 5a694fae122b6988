"""Experiments and runs: begin, measure, leave files, make models of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

from keelway.contracts.experiments import (
    Experiment,
    Metric,
    MetricsReport,
    OutputsCreate,
    OutputsUpload,
    RegisteredRun,
    Run,
    RunCreate,
    RunRegister,
    RunRegisterBest,
    RunUpdate,
)
from keelway.contracts.files import FileEntry
from keelway.contracts.models import Dataset, ModelVersion, ResourceRequirements
from keelway.errors import KeelwayError
from keelway.resources.base import SLOW_ANSWER_S, Resource, checked, dumped, parsed, segment
from keelway.uploads import Progress, manifest, model_files, send_missing

End = Literal["completed", "failed", "cancelled"]
GoalName = Literal["minimize", "maximize"]


class NewRun(TypedDict, total=False):
    """What a run may be begun with."""

    id: str | None
    parent: str | None
    iteration: int | None
    display_name: str
    description: str
    primary_metric: str | None
    goal: GoalName | None
    tags: dict[str, str]
    properties: dict[str, str]


class Changes(TypedDict, total=False):
    """What `update` may change."""

    display_name: str
    description: str
    primary_metric: str
    goal: GoalName
    tags: dict[str, str]
    properties: dict[str, str]


class About(TypedDict, total=False):
    """What may be said of a new model version."""

    description: str
    tags: dict[str, str]
    properties: dict[str, str]
    framework: str | None
    framework_version: str | None
    resource_requirements: ResourceRequirements | None
    datasets: list[Dataset]
    sample_input: Any
    sample_output: Any
    requires_approval: bool


class Experiments(Resource):
    """`{w}/experiments`: each is made with its first run."""

    def list(self, *, name: str | None = None) -> Iterator[Experiment]:
        """Experiments by name; with `name` only that one, if it is there."""
        return self._pages(Experiment, f"{self._workspace}/experiments", {"name": name})


class Runs(Resource):
    """`{w}/experiments/{experiment}/runs`."""

    def create(self, experiment: str, **said: Unpack[NewRun]) -> RunHandle:
        """Begin a run. Used as a context manager, the handle ends it: completed, or failed by an exception."""
        return RunHandle(self, self._send(Run, "POST", self._path(experiment), checked(RunCreate, **said)))

    def handle(self, experiment: str, run: str) -> RunHandle:
        """A run that somebody began before, to go on with."""
        return RunHandle(self, self.get(experiment, run))

    def get(self, experiment: str, run: str) -> Run:
        """A run as it is now, with the last value of each of its metrics."""
        return self._get(Run, self._path(experiment, run))

    def list(
        self,
        experiment: str,
        *,
        state: str | None = None,
        parent: str | None = None,
        tags: Sequence[str] = (),
    ) -> Iterator[Run]:
        """Runs, newest first. `tags`: `key` for one that is there, `key=value` for one of that value; all must hold."""
        return self._pages(Run, self._path(experiment), {"state": state, "parent": parent, "tag": list(tags)})

    def update(self, experiment: str, run: str, *, etag: str | None = None, **changes: Unpack[Changes]) -> Run:
        """Describe a run anew; with `etag` only if nobody else did since."""
        return self._change(experiment, run, checked(RunUpdate, **changes), etag=etag)

    def finish(self, experiment: str, run: str, state: End = "completed") -> Run:
        """End a run: nothing is added to it any more."""
        return self._change(experiment, run, checked(RunUpdate, state=state))

    def _change(self, experiment: str, run: str, body: RunUpdate, *, etag: str | None = None) -> Run:
        headers = {"If-Match": etag} if etag else None
        path = self._path(experiment, run)
        return parsed(Run, self._client.request("PATCH", path, json=dumped(body), headers=headers))

    def log(self, experiment: str, run: str, metrics: Mapping[str, float], *, step: int | None = None) -> Run:
        """Report a value of each of these metrics."""
        values = [{"name": name, "value": float(value), "step": step} for name, value in metrics.items()]
        body = checked(MetricsReport, metrics=values)
        return self._send(Run, "POST", self._path(experiment, run, "metrics"), body)

    def metrics(self, experiment: str, run: str, *, name: str | None = None) -> Iterator[Metric]:
        """Every value in the order of the reports, or those of one metric."""
        return self._pages(Metric, self._path(experiment, run, "metrics"), {"name": name})

    def upload(
        self, experiment: str, run: str, path: str | Path, *, to: str = "", progress: Progress | None = None
    ) -> OutputsUpload:
        """Add a file or a folder to a run's outputs, under its own name, in the folder `to` when that is given.

        What the server has already is not sent again, so an upload that broke off is finished by repeating it.
        """
        start = f"{to.strip('/')}/" if to.strip("/") else ""
        files = {start + name: file for name, file in model_files(Path(path)).items()}
        body = checked(OutputsCreate, files=manifest(files, progress))
        upload = self._send(OutputsUpload, "POST", self._path(experiment, run, "outputs"), body)
        send_missing(self._client, upload.missing, files, progress)
        commit = self._path(experiment, run, "outputs", upload.id, "commit")
        return self._send(OutputsUpload, "POST", commit, timeout_s=SLOW_ANSWER_S)

    def outputs(self, experiment: str, run: str) -> Iterator[FileEntry]:
        """The files that the run left, by path."""
        return self._pages(FileEntry, self._path(experiment, run, "outputs"))

    def register(
        self, experiment: str, run: str, name: str, model_path: str | None = None, **about: Unpack[About]
    ) -> ModelVersion:
        """A version of model `name` made of a file or a folder among the outputs; no bytes are sent again.

        `model_path` with or without `outputs/`; the model's name when it is not given.
        """
        body = checked(RunRegister, name=name, model_path=model_path, **about)
        return self._send(ModelVersion, "POST", self._path(experiment, run, "register"), body, timeout_s=SLOW_ANSWER_S)

    def register_best(
        self,
        experiment: str,
        run: str,
        model_path: str,
        *,
        name: str | None = None,
        iteration: int | None = None,
        metric: str | None = None,
        goal: GoalName | None = None,
        **about: Unpack[About],
    ) -> RegisteredRun:
        """The same with one of the run's children: of an iteration, or the best by a metric, else the primary one."""
        choice = {"name": name, "iteration": iteration, "metric": metric, "goal": goal}
        body = checked(RunRegisterBest, model_path=model_path, **choice, **about)
        path = self._path(experiment, run, "register-best")
        return self._send(RegisteredRun, "POST", path, body, timeout_s=SLOW_ANSWER_S)

    def _path(self, experiment: str, *parts: str) -> str:
        return "/".join([self._workspace, "experiments", segment(experiment), "runs", *map(segment, parts)])


class RunHandle:
    """A run that is being filled. Has all attributes of `Run`, as they were when it was last read."""

    def __init__(self, runs: Runs, run: Run) -> None:
        self._runs = runs
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def __repr__(self) -> str:
        return f"<RunHandle {self.run.experiment}/{self.run.id}: {self.run.state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.run.state.is_terminal:
            return
        if error is None:
            self.finish()
            return
        with suppress(KeelwayError):  # what went wrong first is what its reader must see
            self.finish("failed" if isinstance(error, Exception) else "cancelled")

    def log(self, name: str, value: float, *, step: int | None = None) -> None:
        """Report a value of a metric."""
        self.log_all({name: value}, step=step)

    def log_all(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Report a value of each of these metrics, in one request."""
        self.run = self._runs.log(*self._id, metrics, step=step)

    def upload(self, path: str | Path, *, to: str = "", progress: Progress | None = None) -> OutputsUpload:
        """Add a file or a folder to its outputs."""
        return self._runs.upload(*self._id, path, to=to, progress=progress)

    def child(self, **said: Unpack[NewRun]) -> RunHandle:
        """Begin a run whose parent this is."""
        return self._runs.create(self.run.experiment, **{**said, "parent": self.run.id})

    def finish(self, state: End = "completed") -> Run:
        """End it."""
        self.run = self._runs.finish(*self._id, state)
        return self.run

    def refresh(self) -> Run:
        """Read it again."""
        self.run = self._runs.get(*self._id)
        return self.run

    def register(self, name: str, model_path: str | None = None, **about: Unpack[About]) -> ModelVersion:
        """A model version of a file or a folder among its outputs."""
        return self._runs.register(*self._id, name, model_path, **about)

    @property
    def _id(self) -> tuple[str, str]:
        return self.run.experiment, self.run.id
