"""Reading what users hand in: a conda file or pip requirements, or a whole definition of the old system."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from keelway.contracts.environment_json import EnvironmentDefinition
from keelway.contracts.environments import EnvironmentVersionCreate
from keelway.contracts.images import BuildContext, RegistryCredentials
from keelway_api.environments import conda, conda_file, requirements
from keelway_api.environments.conda_file import CondaFile
from keelway_api.errors import EnvironmentInvalid, PythonNotAvailable

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OLDEST = Version("3.9")
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


@dataclass(frozen=True)
class ImageSource:
    """The image that an environment is for, in at most one of three ways, and its registry's credentials."""

    base_image: str | None = None
    dockerfile: str | None = None
    build_context: BuildContext | None = None
    registry: RegistryCredentials | None = None


@dataclass(frozen=True)
class Definition:
    """What an environment asks for. `python` is a version specifier, or None when any will do."""

    python: SpecifierSet | None
    requirements: tuple[str, ...]
    variables: dict[str, str]
    conda_packages: tuple[str, ...] = ()
    conda_specs: tuple[conda.CondaSpec, ...] = ()
    channels: tuple[str, ...] = ()
    image: ImageSource = field(default_factory=ImageSource)
    is_user_managed: bool = False
    machine: str = "x86_64"
    notes: tuple[str, ...] = ()


def read(body: EnvironmentVersionCreate) -> Definition:
    """The definition in a request. Raises EnvironmentInvalid naming the line."""
    given = body.definition
    found = _of_definition(given, body) if given else _of_parts(body)
    python = conda.python_versions([body.python_version]) if body.python_version else found.python
    variables = {**found.variables, **(given.environment_variables if given else {}), **body.environment_variables}
    return Definition(
        python=python,
        requirements=found.pip,
        variables=_checked(variables),
        conda_packages=found.packages,
        conda_specs=found.specs,
        channels=found.channels,
        image=_image_of_definition(given) if given else _image_of_parts(body),
        is_user_managed=given.python.user_managed_dependencies if given else body.user_managed_dependencies,
        machine=MACHINES.get(given.docker.platform.architecture if given else platform.machine(), "x86_64"),
        notes=tuple(_without_effect(given)) if given else (),
    )


def _of_parts(body: EnvironmentVersionCreate) -> CondaFile:
    if body.conda_file is not None:
        return conda_file.read(body.conda_file, real_azureml=body.real_azureml)
    lines = (body.pip_requirements or "").splitlines()
    return CondaFile(None, requirements.read(lines, real_azureml=body.real_azureml), {})


def _of_definition(given: EnvironmentDefinition, body: EnvironmentVersionCreate) -> CondaFile:
    dependencies = given.python.conda_dependencies
    if dependencies is None or given.python.user_managed_dependencies:
        return CondaFile(None, (), {})
    return conda_file.read_document(dependencies, real_azureml=body.real_azureml)


def _image_of_parts(body: EnvironmentVersionCreate) -> ImageSource:
    return ImageSource(body.base_image, body.dockerfile, body.build_context, body.base_image_registry)


def _image_of_definition(given: EnvironmentDefinition) -> ImageSource:
    docker, registry = given.docker, given.docker.base_image_registry
    context = docker.build_context
    return ImageSource(
        docker.base_image,
        docker.base_dockerfile,
        BuildContext(snapshot=context.location, dockerfile=context.dockerfile_path) if context else None,
        RegistryCredentials.model_validate(
            registry.model_dump(include={"address", "username", "password"}, by_alias=False)
        )
        if registry.address
        else None,
    )


def _without_effect(given: EnvironmentDefinition) -> list[str]:
    """What a definition says that is kept and given back, and does nothing here."""
    said: dict[str, Any] = {
        "docker.arguments": given.docker.arguments,
        "docker.baseImageRegistry.registryIdentity": given.docker.base_image_registry.registry_identity,
        "spark.repositories": given.spark.repositories,
        "spark.packages": given.spark.packages,
        "databricks": any(given.databricks.model_dump().values()),
        "r": given.r,
        "assetId": given.asset_id,
        "python.condaDependencies": given.python.user_managed_dependencies and given.python.conda_dependencies,
    }
    return [f"{key} is kept and has no effect" for key, value in said.items() if value]


def _checked(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not VARIABLE.fullmatch(name):
            raise EnvironmentInvalid(name[:200], "not a name that an environment variable can have")
        if "\0" in value:
            raise EnvironmentInvalid(name, "its value holds NUL")
    return variables


def choose_python(wanted: SpecifierSet | None, available: list[str]) -> str:
    """The major.minor to resolve for: the first that fits of what there is, in its order of preference.

    Raises PythonNotAvailable naming what there is.
    """
    usable = [version for version in map(_version, available) if version is not None and version >= OLDEST]
    for version in usable:
        if wanted is None or wanted.contains(version, prereleases=True):
            return f"{version.major}.{version.minor}"
    raise PythonNotAvailable(str(wanted or "3.9 or later"), [str(version) for version in usable])


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
