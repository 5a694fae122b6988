"""Models and their versions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from keelway.contracts.base import Answer, Description, ModelName, Request, Tags
from keelway.contracts.files import FileEntry, MissingFile, ModelManifest


class VersionState(StrEnum):
    """Where a model version is in its life."""

    UPLOADING = "uploading"
    READY = "ready"
    CORRUPT = "corrupt"
    DELETING = "deleting"


class ResourceRequirements(Request):
    """What serving this model takes: cores, GB of memory, GPUs."""

    cpu: Annotated[float, Field(gt=0)] | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    gpu: Annotated[int, Field(gt=0)] | None = None


class ModelVersionCreate(Request):
    """A new version: its files by digest, and what is said about it."""

    files: ModelManifest
    description: Description = ""
    tags: Tags = Field(default_factory=dict)
    properties: Tags = Field(default_factory=dict)
    framework: Annotated[str, Field(max_length=64)] | None = None
    framework_version: Annotated[str, Field(max_length=64)] | None = None
    resource_requirements: ResourceRequirements | None = None

    @model_validator(mode="after")
    def _version_needs_framework(self) -> ModelVersionCreate:
        if self.framework_version and not self.framework:
            raise ValueError("framework_version needs a framework")
        return self


class ModelVersion(Answer):
    """One version of a model; its bytes never change once `state` is `ready`."""

    id: str = Field(description="name:version")
    name: ModelName
    version: int
    state: VersionState
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    framework: str | None = None
    framework_version: str | None = None
    resource_requirements: ResourceRequirements | None = None
    files: list[FileEntry] = Field(default_factory=list)
    size_bytes: int
    digest: str = Field(description="sha256 over the canonical manifest")
    used_by: list[str] = Field(default_factory=list, description="services with a revision that serves this version")
    created_at: datetime
    created_by: str
    etag: str


class ModelVersionUpload(ModelVersion):
    """A version that was just opened, and the files whose bytes are still to come."""

    missing: list[MissingFile] = Field(default_factory=list)


class Model(Answer):
    """A named model with its newest ready version, if it has one."""

    name: str
    created_at: datetime
    latest: ModelVersion | None = None
