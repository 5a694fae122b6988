"""`inferenceconfig.json` and `deploymentconfig.json`, with the keys of the Azure ML CLI v1.

What does not work yet is an error that names the key: a setting must never be ignored in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keelway.contracts.services import DeploymentConfig
from keelway.errors import InvalidInput
from keelway.inference import InferenceSource
from keelway.resources.base import checked

_INFERENCE = {
    "entryScript", "runtime", "condaFile", "sourceDirectory", "description", "environment", "extraDockerfileSteps",
}  # fmt: skip
_INFERENCE_LATER = {"enableGpu", "cudaVersion", "baseImage", "baseImageRegistry"}
_DEPLOYMENT = {"computeType", "numReplicas", "dataCollection", "containerResourceRequirements"}
_DEPLOYMENT_LATER = {
    "port", "location", "authEnabled", "sslEnabled", "appInsightsEnabled",
    "sslCertificate", "sslKey", "cname", "dnsNameLabel", "keys", "vaultBaseUrl", "keyName", "keyVersion", "vnetName",
    "subnetName", "autoScaler", "tokenAuthEnabled", "gpuCores", "scoringTimeoutMs",
    "maxConcurrentRequestsPerContainer", "maxQueueWaitMs", "livenessProbeRequirements", "namespace",
    "computeTargetName", "versionName", "trafficPercentile", "tags", "properties", "description",
}  # fmt: skip
_COMPUTE = {"process": "process", "local": "process", "docker": "docker", "aci": "docker"}
_COMPUTE_LATER = {"kubernetes", "edge", "aks", "aksendpoint", "iot"}


def read_inference(path: Path, *, environment: str | None = None) -> InferenceSource:
    """The inference config in a file, checked. `environment` stands in for its conda file."""
    document = _document(path)
    _refuse(path, document, known=_INFERENCE, later=_INFERENCE_LATER)
    if (runtime := _string(path, document, "runtime")) not in (None, "python"):
        raise InvalidInput(f"{path}: runtime {runtime!r} does not work; 'python' does")
    entry_script = _string(path, document, "entryScript")
    if not entry_script:
        raise InvalidInput(f"{path}: entryScript is missing")
    definition = document.get("environment")
    if definition is not None and not isinstance(definition, dict):
        raise InvalidInput(f"{path}: environment must be an object: the JSON of a whole environment")
    if definition is not None and environment is not None:
        raise InvalidInput(f"{path}: environment stands in the file; do not name another with -e")
    source = InferenceSource(
        entry_script=entry_script,
        source_directory=path.parent / (_string(path, document, "sourceDirectory") or "."),
        conda_file=_string(path, document, "condaFile"),
        environment=environment,
        definition=definition,
        description=_string(path, document, "description") or "",
        extra_docker_file_steps=_string(path, document, "extraDockerfileSteps"),
    )
    source.check()
    return source


def read_deployment(path: Path | None) -> DeploymentConfig:
    """The deployment config in a file; one process without a file."""
    if path is None:
        return DeploymentConfig()
    document = _document(path)
    _refuse(path, document, known=_DEPLOYMENT, later=_DEPLOYMENT_LATER)
    compute = _string(path, document, "computeType") or "process"
    if compute.lower() not in _COMPUTE:
        what = "does not work yet" if compute.lower() in _COMPUTE_LATER else "is unknown"
        raise InvalidInput(f"{path}: computeType {compute!r} {what}; 'process', 'local', 'docker' and 'aci' work")
    replicas = document.get("numReplicas", 1)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise InvalidInput(f"{path}: numReplicas must be a whole number, not {replicas!r}")
    try:
        return checked(
            DeploymentConfig,
            compute_type=_COMPUTE[compute.lower()],
            num_replicas=replicas,
            collect_model_data=_collects(path, document),
            container_resources=_resources(path, document),
        )
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {str(error).replace('num_replicas', 'numReplicas')}") from error


_RESOURCES = {"cpu": "cpu", "memoryInGB": "memory_gb", "cpuLimit": "cpu_limit", "memoryInGBLimit": "memory_gb_limit"}


def _resources(path: Path, document: Mapping[str, Any]) -> dict[str, Any] | None:
    section = document.get("containerResourceRequirements")
    if section is None:
        return None
    if not isinstance(section, dict):
        raise InvalidInput(f'{path}: containerResourceRequirements must be an object such as {{"memoryInGB": 0.5}}')
    _refuse(path, section, known=set(_RESOURCES), later=set())
    return {_RESOURCES[name]: value for name, value in section.items()}


def _collects(path: Path, document: Mapping[str, Any]) -> bool:
    section = document.get("dataCollection")
    if section is None:
        return False
    if not isinstance(section, dict):
        raise InvalidInput(f'{path}: dataCollection must be an object such as {{"storageEnabled": true}}')
    _refuse(path, section, known={"storageEnabled"}, later={"eventHubEnabled"})
    is_enabled = section.get("storageEnabled", False)
    if not isinstance(is_enabled, bool):
        raise InvalidInput(f"{path}: dataCollection.storageEnabled must be true or false, not {is_enabled!r}")
    return is_enabled


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} does not hold a JSON object")
    return document


def _refuse(path: Path, document: Mapping[str, Any], *, known: set[str], later: set[str]) -> None:
    for key, value in document.items():
        if key in known:
            continue
        if key not in later:
            raise InvalidInput(f"{path}: {key!r} is no key of such a file; known are {', '.join(sorted(known))}")
        # Files in the wild spell out defaults as null or false; those ask for nothing.
        if value not in (None, False):
            raise InvalidInput(f"{path}: {key!r} does not work yet; remove it to deploy without it")


def _string(path: Path, document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{path}: {key} must be a string, not {value!r}")
    return value
