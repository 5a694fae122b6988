"""Experiments and their runs: what a training said about itself, its metrics and the files it left."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from keelway.contracts.base import Answer, Description, ModelName, Request, Tags
from keelway.contracts.files import FilePath, Manifest, MissingFile
from keelway.contracts.models import ModelVersion, VersionAbout

MAX_METRICS = 1000  # in one request, and different names in one run
MAX_ITERATION = 2**31 - 1
MAX_STEP = 2**53


class RunState(StrEnum):
    """Where a run is in its life; from the last three there is no way back."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True once nothing is added to the run any more."""
        return self is not RunState.RUNNING


class Goal(StrEnum):
    """Which of two values of a metric is the better one."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


Iteration = Annotated[int, Field(ge=0, le=MAX_ITERATION)]
DisplayName = Annotated[str, Field(max_length=255)]


class RunCreate(Request):
    """A new run, in state `running`."""

    id: ModelName | None = Field(None, description="unique in its experiment; made up when absent")
    parent: ModelName | None = Field(None, description="id of another run of the same experiment")
    iteration: Iteration | None = Field(None, description="its number among the parent's children")
    display_name: DisplayName = ""
    description: Description = ""
    primary_metric: ModelName | None = Field(None, description="what the children are compared by")
    goal: Goal | None = None
    tags: Tags = Field(default_factory=dict)
    properties: Tags = Field(default_factory=dict, description="written once: never changed or removed later")

    @model_validator(mode="after")
    def _belongs_together(self) -> RunCreate:
        if self.iteration is not None and self.parent is None:
            raise ValueError("iteration needs a parent")
        if (self.goal is None) != (self.primary_metric is None):
            raise ValueError("primary_metric and goal go together")
        return self


class RunUpdate(Request):
    """What may be said differently later. Fields that are not given stay; `properties` may only be added."""

    state: RunState | None = None
    display_name: DisplayName | None = None
    description: Description | None = None
    primary_metric: ModelName | None = None
    goal: Goal | None = None
    tags: Tags | None = Field(None, description="all tags from now on")
    properties: Tags | None = Field(None, description="new properties, beside those there are")

    @model_validator(mode="after")
    def _belongs_together(self) -> RunUpdate:
        if (self.goal is None) != (self.primary_metric is None):
            raise ValueError("primary_metric and goal go together")
        return self


class MetricValue(Request):
    """One value of a metric; a later one of the same name counts instead of it."""

    name: ModelName
    value: Annotated[float, Field(allow_inf_nan=False, strict=True)]
    step: Annotated[int, Field(ge=0, le=MAX_STEP)] | None = None


class MetricsReport(Request):
    """Values in the order in which they came about."""

    metrics: Annotated[list[MetricValue], Field(min_length=1, max_length=MAX_METRICS)]


class Metric(Answer):
    """One value as it was reported."""

    name: str
    value: float
    step: int | None = None
    at: datetime


class Experiment(Answer):
    """A name that runs belong to; made with its first run."""

    name: str
    created_at: datetime
    created_by: str


class Run(Answer):
    """One training, or one try of a search, whose parent is the search."""

    id: str
    experiment: str
    state: RunState
    parent: str | None = None
    iteration: int | None = None
    display_name: str = ""
    description: str = ""
    primary_metric: str | None = None
    goal: Goal | None = None
    metrics: dict[str, float] = Field(default_factory=dict, description="the last value of each")
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    model_id: str | None = Field(None, description="name of the model that register-best made of it or of its child")
    created_at: datetime
    created_by: str
    ended_at: datetime | None = None
    etag: str


class OutputsCreate(Request):
    """Files that the run left; a path that is there already with the same bytes is taken as it is."""

    files: Manifest


class OutputsState(StrEnum):
    """Outputs are there once every file is."""

    UPLOADING = "uploading"
    READY = "ready"


class OutputsUpload(Answer):
    """Outputs on their way in, and the files whose bytes are still to come."""

    id: str
    run: str = Field(description="experiment/run")
    state: OutputsState
    size_bytes: int
    missing: list[MissingFile] = Field(default_factory=list)
    created_at: datetime
    created_by: str


def _without_last_slash(path: object) -> object:
    return path.removesuffix("/") if isinstance(path, str) else path


OutputPath = Annotated[FilePath, BeforeValidator(_without_last_slash)]


class RunRegister(VersionAbout):
    """Make a model version of a file or a folder among a run's outputs; no bytes are sent again."""

    name: ModelName
    model_path: OutputPath | None = Field(None, description="with or without `outputs/`; the model's name when absent")


class RunRegisterBest(VersionAbout):
    """The same with outputs of one child: of this iteration, or the best by a metric, else by the primary metric."""

    name: ModelName | None = Field(None, description="made of experiment and chosen run when absent")
    model_path: OutputPath
    iteration: Iteration | None = None
    metric: ModelName | None = None
    goal: Goal | None = Field(None, description="needed when `metric` is not the parent's primary metric")

    @model_validator(mode="after")
    def _one_choice(self) -> RunRegisterBest:
        if self.iteration is not None and self.metric is not None:
            raise ValueError("give iteration or metric, not both")
        if self.goal is not None and self.metric is None:
            raise ValueError("goal needs a metric")
        return self


class RegisteredRun(ModelVersion):
    """The version that was made of a child run; its `run` says of which."""

    model_id: str = Field(description="the model's name, as the run and its parent now have it")
