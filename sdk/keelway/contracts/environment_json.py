"""The Environment JSON of the Azure ML SDK v1: every key it has, each with the default that the old SDK writes."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from keelway.contracts.base import ModelName, Request, Sha256
from keelway.contracts.files import FilePath
from keelway.contracts.images import Dockerfile, ImageReference, Password, RegistryAddress, Seen, Username

MAX_CHARACTERS = 262_144
Word = Annotated[Seen, StringConstraints(max_length=1024)]
Label = Annotated[str, StringConstraints(max_length=255, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$")]
Items = Annotated[list[JsonValue], Field(max_length=1000)]


class Section(Request):
    """A part of the document. Its keys are camelCase; the old client also sends some with a capital."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _small_first_letters(cls, section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        renamed = {key[:1].lower() + key[1:] if isinstance(key, str) else key: item for key, item in section.items()}
        if len(renamed) < len(section):
            raise ValueError("a key is given twice, once with a capital")
        return renamed


class PythonSection(Section):
    """The packages, and whose Python they are for."""

    user_managed_dependencies: bool = Field(default=False, description="the image's own Python, with nothing added")
    interpreter_path: Annotated[str, StringConstraints(max_length=1024, pattern=r"^[a-zA-Z0-9_./+-]+$")] = "python"
    conda_dependencies_file: Word | None = None
    base_conda_environment: Word | None = None
    conda_dependencies: dict[str, JsonValue] | None = Field(default=None, description="a conda environment file")

    @model_validator(mode="after")
    def _complete(self) -> PythonSection:
        if self.base_conda_environment is not None:
            raise ValueError("baseCondaEnvironment names an environment of another machine; export it as a conda file")
        if self.conda_dependencies_file is not None:
            raise ValueError("condaDependenciesFile is a path on another machine; put its content in condaDependencies")
        return self


class RegistrySection(Section):
    """The registry that an image comes from: all of address, username and password, or none."""

    address: RegistryAddress | None = None
    username: Username | None = None
    password: Password | None = Field(default=None, repr=False)
    registry_identity: JsonValue = None

    @model_validator(mode="after")
    def _all_or_none(self) -> RegistrySection:
        if len({each is None for each in (self.address, self.username, self.password)}) > 1:
            raise ValueError("give all of address, username and password, or none")
        return self


class PlatformSection(Section):
    """What images are built for."""

    os: Annotated[str, StringConstraints(pattern=r"^[Ll]inux$")] = "Linux"
    architecture: Literal["amd64", "arm64"] = "amd64"


class BuildContextSection(Section):
    """A folder with a Dockerfile; here a snapshot, by its digest."""

    location_type: Literal["snapshot"] = "snapshot"
    location: Sha256
    dockerfile_path: FilePath = "Dockerfile"


class DockerSection(Section):
    """The image that the packages are for: at most one of baseImage, baseDockerfile and buildContext."""

    enabled: bool = False
    base_image: ImageReference | None = None
    base_dockerfile: Dockerfile | None = None
    build_context: BuildContextSection | None = None
    shared_volumes: bool = True
    shm_size: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}[bkmgBKMG]?$")] | None = "2g"
    arguments: Annotated[list[Word], Field(max_length=100)] = Field(default_factory=list)
    base_image_registry: RegistrySection = Field(default_factory=RegistrySection)
    platform: PlatformSection = Field(default_factory=PlatformSection)

    @model_validator(mode="after")
    def _one_image(self) -> DockerSection:
        if sum(each is not None for each in (self.base_image, self.base_dockerfile, self.build_context)) > 1:
            raise ValueError("give only one of baseImage, baseDockerfile and buildContext")
        return self

    @property
    def has_image(self) -> bool:
        """Whether it says which image to use."""
        return any((self.base_image, self.base_dockerfile, self.build_context))


class SparkSection(Section):
    """Kept for whoever reads it back."""

    repositories: Items = Field(default_factory=list)
    packages: Items = Field(default_factory=list)
    precache_packages: bool = True


class DatabricksSection(Section):
    """Kept for whoever reads it back."""

    maven_libraries: Items = Field(default_factory=list)
    pypi_libraries: Items = Field(default_factory=list)
    rcran_libraries: Items = Field(default_factory=list)
    jar_libraries: Items = Field(default_factory=list)
    egg_libraries: Items = Field(default_factory=list)


class EnvironmentDefinition(Section):
    """A whole environment as the Azure ML SDK v1 writes it. `name` and `version` are ours in what is given back."""

    name: ModelName | None = None
    version: Label | int | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)
    python: PythonSection = Field(default_factory=PythonSection)
    docker: DockerSection = Field(default_factory=DockerSection)
    spark: SparkSection = Field(default_factory=SparkSection)
    databricks: DatabricksSection = Field(default_factory=DatabricksSection)
    r: JsonValue = None
    inferencing_stack_version: Label | None = None
    asset_id: Word | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_too_large(cls, document: Any) -> Any:
        try:
            size = len(json.dumps(document, ensure_ascii=False).encode())
        except (RecursionError, ValueError, TypeError):
            raise ValueError("it is not JSON, or has too many brackets in brackets") from None
        if size > MAX_CHARACTERS:
            raise ValueError(f"at most {MAX_CHARACTERS} characters are taken, these are {size}")
        return document

    @model_validator(mode="after")
    def _has_python(self) -> EnvironmentDefinition:
        if self.python.user_managed_dependencies and not self.docker.has_image:
            raise ValueError("userManagedDependencies means an image's own Python: name the image under docker")
        return self
