"""Environments: a declared dependency set, and the lock it was resolved to."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from keelway.contracts.base import Answer, Request, Sha256
from keelway.contracts.environment_json import EnvironmentDefinition
from keelway.contracts.images import BuildContext, Dockerfile, ImageReference, RegistryCredentials

Text = Annotated[str, StringConstraints(max_length=262_144)]
PythonVersion = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")]
Manager = Literal["pip", "conda"]

# What `definition` says already and so excludes.
_PARTS = {
    *("conda_file", "pip_requirements", "base_image", "base_image_registry"),
    *("dockerfile", "build_context", "user_managed_dependencies"),
}


class EnvironmentVersionCreate(Request):
    """What an environment consists of: its packages as text and the image they are for, or one whole `definition`."""

    conda_file: Text | None = Field(
        default=None, description="a conda environment file: python version, conda packages, a pip section"
    )
    pip_requirements: Text | None = Field(
        default=None, description="requirements.txt lines; an empty text is the scoring runtime alone"
    )
    definition: EnvironmentDefinition | None = Field(
        default=None, description="the Environment JSON of the Azure ML SDK v1, instead of the single parts"
    )
    python_version: PythonVersion | None = Field(default=None, description="overrides what the conda file asks for")
    environment_variables: dict[str, str] = Field(default_factory=dict)
    wheels: Sha256 | None = Field(
        default=None, description="a snapshot of .whl files, each of which is installed: packages of your own"
    )
    base_image: ImageReference | None = Field(
        default=None, description="the image to start from, on targets that run images"
    )
    base_image_registry: RegistryCredentials | None = None
    dockerfile: Dockerfile | None = Field(default=None, description="instead of base_image: how that image is made")
    build_context: BuildContext | None = Field(default=None, description="instead of base_image: a folder to make it")
    user_managed_dependencies: bool = Field(
        default=False, description="run with the image's own Python, with nothing added and nothing locked"
    )
    real_azureml: bool = Field(
        default=False, description="install azureml-defaults and the like, instead of leaving them to the runtime"
    )

    @model_validator(mode="after")
    def _consistent(self) -> EnvironmentVersionCreate:
        if self.definition is not None:
            self._alone()
        else:
            self._one_source()
            self._one_image()
        return self

    def _alone(self) -> None:
        if twice := sorted(_PARTS & self.model_fields_set & {name for name in _PARTS if getattr(self, name)}):
            raise ValueError(f"definition says this already: leave out {', '.join(twice)}")

    def _one_source(self) -> None:
        given = [each for each in (self.conda_file, self.pip_requirements) if each is not None]
        if len(given) > 1:
            raise ValueError("give either conda_file or pip_requirements, not both")
        if self.user_managed_dependencies and (given or self.wheels):
            raise ValueError("user_managed_dependencies takes no packages: the image has its own")
        if not given and not self.wheels and not self.user_managed_dependencies:
            raise ValueError("give conda_file or pip_requirements; pip_requirements '' is the scoring runtime alone")

    def _one_image(self) -> None:
        images = sum(each is not None for each in (self.base_image, self.dockerfile, self.build_context))
        if images > 1:
            raise ValueError("give only one of base_image, dockerfile and build_context")
        if not images and (self.user_managed_dependencies or self.base_image_registry):
            raise ValueError("give the image: one of base_image, dockerfile and build_context")


class Registry(Answer):
    """Where an image comes from, without the password."""

    address: str
    username: str


class EnvironmentVersion(Answer):
    """One resolved version of an environment: same content, same version."""

    id: str = Field(description="name:version")
    name: str
    version: int
    python_version: str = Field(
        description="major.minor that its lock was resolved for; 3 when it is for every Python from 3.9 on, empty when "
        "the image's own Python is used"
    )
    platform: str | None = Field(default=None, description="what its lock was resolved for, e.g. linux-x86_64")
    requirements: list[str] = Field(description="what was asked for, after the platform's own packages were taken out")
    conda_packages: list[str] = Field(default_factory=list, description="conda packages that were asked for")
    channels: list[str] = Field(default_factory=list, description="where conda packages come from, the first preferred")
    conda_file: str | None = None
    pip_requirements: str | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)
    wheels: str | None = Field(default=None, description="the snapshot with its private wheels")
    base_image: str | None = None
    base_image_registry: Registry | None = None
    dockerfile: str | None = None
    build_context: BuildContext | None = None
    user_managed_dependencies: bool = False
    real_azureml: bool = False
    is_curated: bool = Field(default=False, description="made by Keelway and read-only")
    notes: list[str] = Field(default_factory=list, description="what was said and has no effect here")
    lock_digest: str = Field(description="sha256 of the lock's text")
    created_at: datetime
    created_by: str


class LockedPackage(Answer):
    """One package of a lock."""

    name: str
    version: str
    manager: Manager
    source: str | None = Field(default=None, description="a conda package's address, or the name of a private wheel")
    marker: str | None = Field(default=None, description="when it is installed; absent: always")


class EnvironmentLock(Answer):
    """The exact packages with hashes: what every build of this version installs."""

    digest: str
    python_version: str
    platform: str | None = None
    requirements: str = Field(description="the pip part, as uv and pip read it (`--require-hashes`)")
    conda: str | None = Field(default=None, description="the conda part as JSON: records with address and sha256")
    packages: list[LockedPackage] = Field(default_factory=list)


class ChangedPackage(Answer):
    """A package that two locks have in different versions."""

    name: str
    manager: Manager
    from_version: str
    to_version: str


class LockDiff(Answer):
    """What became of a lock from one version to another."""

    name: str
    from_version: int
    to_version: int
    from_python: str
    to_python: str
    added: list[LockedPackage]
    removed: list[LockedPackage]
    changed: list[ChangedPackage]


class Environment(Answer):
    """A named environment with its newest version."""

    name: str
    created_at: datetime
    latest: EnvironmentVersion


def lock_digest(requirements: str, conda: str | None = None) -> str:
    """The digest of a lock: over its pip part alone, or over both parts where it has a conda part."""
    text = requirements if conda is None else f"{conda}\n{requirements}"
    return hashlib.sha256(text.encode()).hexdigest()
