"""A version as the Environment JSON of the Azure ML SDK v1."""

from __future__ import annotations

from typing import Any

import yaml

from keelway.contracts.environment_json import EnvironmentDefinition, RegistrySection
from keelway.contracts.environments import EnvironmentVersion

NAME = "project_environment"


def written(version: EnvironmentVersion, stored: dict[str, Any] | None) -> EnvironmentDefinition:
    """The definition that was registered, or one that means the same as the parts that were."""
    found = EnvironmentDefinition.model_validate(stored) if stored else _of_parts(version)
    found.name, found.version = version.name, str(version.version)
    found.environment_variables = version.environment_variables
    if registry := version.base_image_registry:
        identity = found.docker.base_image_registry.registry_identity
        # Not validated: nobody is shown the password, and there is one.
        found.docker.base_image_registry = RegistrySection.model_construct(
            address=registry.address, username=registry.username, password=None, registry_identity=identity
        )
    return found


def _of_parts(version: EnvironmentVersion) -> EnvironmentDefinition:
    context = version.build_context
    docker: dict[str, Any] = {"baseImage": version.base_image, "baseDockerfile": version.dockerfile}
    if context is not None:
        docker["buildContext"] = {"location": context.snapshot, "dockerfilePath": context.dockerfile}
    if version.platform == "linux-aarch64":
        docker["platform"] = {"architecture": "arm64"}
    python = {
        "userManagedDependencies": version.user_managed_dependencies,
        "condaDependencies": None if version.user_managed_dependencies else _dependencies(version),
    }
    return EnvironmentDefinition.model_validate({"python": python, "docker": docker})


def _dependencies(version: EnvironmentVersion) -> dict[str, Any]:
    """A conda file of strings alone: the rest of what somebody wrote into theirs meant nothing."""
    if version.conda_file is None:
        lines = [line for line in (version.pip_requirements or "").splitlines() if line.strip()]
        python = f"python={version.python_version}"
        return {"name": NAME, "dependencies": [python, {"pip": lines}] if lines else [python]}
    document = yaml.safe_load(version.conda_file)
    found = {"name": NAME, "dependencies": document.get("dependencies") or []}
    return {**found, "channels": version.channels} if version.channels else found
