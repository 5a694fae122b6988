"""Models and their versions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import to_json

from keelway.contracts.base import MODEL_NAME, Answer, Description, ModelName, Request, Tags
from keelway.contracts.files import FileEntry, MissingFile, ModelManifest
from keelway.contracts.safety import Safety
from keelway.contracts.upkeep import Damage

MAX_SAMPLE_BYTES = 256 * 1024


def _small(sample: JsonValue) -> JsonValue:
    if sample is not None and len(to_json(sample)) > MAX_SAMPLE_BYTES:
        raise ValueError(f"a sample may have {MAX_SAMPLE_BYTES} bytes as JSON; register larger ones as files")
    return sample


def checked_alias(alias: str) -> str:
    """The alias itself; ValueError when it could be taken for a version."""
    if alias == "latest" or (alias.isascii() and alias.isdigit()):
        raise ValueError("an alias is neither 'latest' nor a number: those name versions already")
    return alias


Sample = Annotated[JsonValue, AfterValidator(_small)]
AliasName = Annotated[str, StringConstraints(pattern=MODEL_NAME), AfterValidator(checked_alias)]


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


class Dataset(Request):
    """Data that belongs to a version: what it was used for (`training`, `validation`, ...) and where it is found."""

    scenario: Annotated[str, Field(min_length=1, max_length=256)]
    id: Annotated[str, Field(min_length=1, max_length=1024)]


Datasets = Annotated[list[Dataset], Field(max_length=1000)]


class VersionAbout(Request):
    """What is said about a new version."""

    description: Description = ""
    tags: Tags = Field(default_factory=dict)
    properties: Tags = Field(default_factory=dict, description="written once: never changed or removed later")
    framework: Annotated[str, Field(max_length=64)] | None = None
    framework_version: Annotated[str, Field(max_length=64)] | None = None
    resource_requirements: ResourceRequirements | None = None
    datasets: Datasets = Field(default_factory=list)
    sample_input: Sample = None
    sample_output: Sample = None
    requires_approval: bool = Field(False, description="somebody who may deploy must approve it before it is deployed")

    @model_validator(mode="after")
    def _version_needs_framework(self) -> Self:
        if self.framework_version and not self.framework:
            raise ValueError("framework_version needs a framework")
        return self


class ModelVersionCreate(VersionAbout):
    """A new version: its files by digest, and what is said about it."""

    files: ModelManifest


class ModelVersionUpdate(Request):
    """What may be said differently later. Fields that are not given stay; `properties` may only be added."""

    description: Description | None = None
    tags: Tags | None = Field(None, description="all tags from now on")
    properties: Tags | None = Field(None, description="new properties, beside those there are")
    resource_requirements: ResourceRequirements | None = None
    datasets: Datasets | None = Field(None, description="all datasets from now on")
    sample_input: Sample = None
    sample_output: Sample = None


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
    datasets: list[Dataset] = Field(default_factory=list)
    sample_input: Any = None
    sample_output: Any = None
    aliases: list[str] = Field(default_factory=list)
    run: str | None = Field(None, description="experiment/run whose outputs it was made of")
    used_by: list[str] = Field(default_factory=list, description="services with a revision that serves this version")
    requires_approval: bool = False
    approved_at: datetime | None = None
    approved_by: str | None = None
    signature_key: str | None = Field(None, description="how its signature calls the key; to be verified, not trusted")
    signature_added_at: datetime | None = Field(None, description="absent: there is no signature")
    signature_added_by: str | None = None
    safety: Safety | None = Field(None, description="what its files were found to be; none: not inspected yet")
    created_at: datetime
    created_by: str
    updated_at: datetime
    etag: str


class DamagedFile(Answer):
    """A file of a version whose stored bytes are not what they were."""

    path: str
    sha256: str
    damage: Damage


class Verification(Answer):
    """One round of verifying a version: its stored bytes read again and compared with its manifest."""

    id: str = Field(description="name:version")
    digest: str = Field(description="the version's digest, which the manifest that was compared has as well")
    size_bytes: int
    checked_files: int
    checked_bytes: int
    damaged: list[DamagedFile]
    remaining_files: int
    next_after: str | None = Field(None, description="pass it on as `after`; absent when all was read")


class ModelVersionUpload(ModelVersion):
    """A version that was just opened, and the files whose bytes are still to come."""

    missing: list[MissingFile] = Field(default_factory=list)


class Model(Answer):
    """A named model with its newest ready version, if it has one."""

    name: str
    created_at: datetime
    latest: ModelVersion | None = None


class AliasSet(Request):
    """Which version an alias names from now on: a number, or `latest`."""

    version: int | Literal["latest"]


class Alias(Answer):
    """A name for one version of a model; the version that it names changes, and every change is kept."""

    alias: str
    model: str
    version: int
    since: datetime
    by: str
    etag: str


class AliasChange(Answer):
    """One change of an alias; `from_version` is none when it was made, `to_version` when it was removed."""

    alias: str
    from_version: int | None
    to_version: int | None
    at: datetime
    by: str
