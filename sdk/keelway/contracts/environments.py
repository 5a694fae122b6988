"""Environments: a declared dependency set, and the lock it was resolved to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from keelway.contracts.base import Answer, Request

Text = Annotated[str, StringConstraints(max_length=262_144)]
PythonVersion = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")]


class EnvironmentVersionCreate(Request):
    """What an environment consists of: conda YAML or pip requirements, as text."""

    conda_file: Text | None = Field(
        default=None, description="a conda environment file: python version and a pip section"
    )
    pip_requirements: Text | None = Field(
        default=None, description="requirements.txt lines; an empty text is the scoring runtime alone"
    )
    python_version: PythonVersion | None = Field(default=None, description="overrides what the conda file asks for")
    environment_variables: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> EnvironmentVersionCreate:
        if self.conda_file is not None and self.pip_requirements is not None:
            raise ValueError("give either conda_file or pip_requirements, not both")
        if self.conda_file is None and self.pip_requirements is None:
            raise ValueError("give conda_file or pip_requirements; pip_requirements '' is the scoring runtime alone")
        return self


class EnvironmentVersion(Answer):
    """One resolved version of an environment: same content, same version."""

    id: str = Field(description="name:version")
    name: str
    version: int
    python_version: str = Field(description="major.minor that its lock was resolved for")
    requirements: list[str] = Field(description="what was asked for, after the platform's own packages were taken out")
    conda_file: str | None = None
    pip_requirements: str | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)
    lock_digest: str = Field(description="sha256 of the lock's text")
    created_at: datetime
    created_by: str


class EnvironmentLock(Answer):
    """The exact packages with hashes, as uv and pip read them (`--require-hashes`)."""

    digest: str
    python_version: str
    requirements: str


class Environment(Answer):
    """A named environment with its newest version."""

    name: str
    created_at: datetime
    latest: EnvironmentVersion
