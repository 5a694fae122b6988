"""Packages: models, their script and the runtime for use elsewhere, as an image or as what one is built from."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from keelway.contracts.base import Answer, Request
from keelway.contracts.files import FileEntry
from keelway.contracts.images import Archive, BaseSpec, ImageLabel, ImageName
from keelway.contracts.services import EnvironmentSpec, InferenceConfig, ModelFiles, ModelRef


class PackageKind(StrEnum):
    """An image, or the folder that `docker build` makes it of."""

    IMAGE = "image"
    DOCKERFILE = "dockerfile"


class PackageState(StrEnum):
    """A package is usable once its operation has made it."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"


class PackageCreate(Request):
    """A new package: an image, or with `dockerfile` the folder that an image is built from."""

    models: Annotated[list[ModelRef], Field(max_length=1000)]
    inference_config: InferenceConfig
    kind: PackageKind = PackageKind.IMAGE
    image_name: ImageName = "package"
    image_label: ImageLabel | None = Field(default=None, description="absent: the time, as yyyymmddhhmmss")


class Package(Answer):
    """Models with all they need. An image answers `POST /score` on port 5001 of its container."""

    id: str
    workspace: str
    kind: PackageKind
    state: PackageState
    reason: str = Field(default="", description="why it failed")
    models: list[str]
    inference_config: InferenceConfig
    environment: str
    image: str = Field(description="name:label of the image")
    image_id: str | None = None
    base_image: str | None = Field(default=None, description="what its image starts from")
    size_bytes: int | None = Field(default=None, description="of the image once it is unpacked, or of all files")
    archive: Archive | None = None
    pushed: str | None = Field(default=None, description="where the operator's registry has it")
    operation: str | None = None
    created_at: datetime
    created_by: str


class ContainerRegistry(Answer):
    """Where an image can be had, and as whom: what the `get_container_registry` of the Azure ML SDK v1 answers.

    Of an image package that of its image, of a `dockerfile` package that of the image it starts from.
    """

    address: str
    image: str = Field(description="what to pull there")
    username: str | None = None
    password: str | None = Field(default=None, repr=False)


# What workers exchange with the API --------------------------------------------------------------------------


class PackageSpec(Answer):
    """Spec of a `package` operation."""

    id: str
    workspace: str
    kind: PackageKind
    image: str
    entry_script: str
    snapshot_files: list[FileEntry]
    models: list[ModelFiles]
    environment: EnvironmentSpec
    base: BaseSpec
    extra_docker_file_steps: str = ""


class PackageResult(Answer):
    """What a worker says of a package that it made and stored; `files` is the snapshot of its files."""

    image_id: str | None = None
    base_image: str
    size_bytes: int
    files: str
    archive: Archive
    pushed: str | None = None
