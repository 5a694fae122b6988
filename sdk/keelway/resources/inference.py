"""What an InferenceSource says, made in the workspace: for services and packages alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keelway.contracts.services import InferenceConfig
from keelway.inference import InferenceSource
from keelway.resources.base import checked

if TYPE_CHECKING:
    from keelway.client import Client


def upload_source(client: Client, source: InferenceSource) -> str:
    """The digest of its source directory, uploaded. InvalidInput when the directory's snapshot lacks the script."""
    source.check()
    return client.snapshots.upload(source.source_directory, needed=[source.entry_script]).digest


def make_environment(client: Client, name: str, source: InferenceSource) -> str:
    """The environment of what is called `name`: the source's own, or `<name>-env` made of what it says.

    Of a source that was uploaded, and so checked.
    """
    if source.environment:
        return reference(source.environment)
    if source.definition is not None:
        named = source.definition.get("name") or f"{name}-env"
        return client.environments.register_definition(source.definition, named).id
    conda_file = source.conda_path
    pip_requirements = None if conda_file else []
    return client.environments.register(f"{name}-env", conda_file=conda_file, pip_requirements=pip_requirements).id


def inference_config(source: InferenceSource, *, snapshot: str, environment: str) -> InferenceConfig:
    """The source as the API takes it: its script in this snapshot and environment."""
    return checked(
        InferenceConfig,
        entry_script=source.entry_script,
        snapshot=snapshot,
        environment=environment,
        description=source.description,
        extra_docker_file_steps=source.docker_steps(),
    )


def make_config(client: Client, name: str, source: InferenceSource) -> InferenceConfig:
    """All of it: first what leaves nothing behind when it is refused."""
    snapshot = upload_source(client, source)
    return inference_config(source, snapshot=snapshot, environment=make_environment(client, name, source))


def reference(text: str) -> str:
    """`ridge` is `ridge:latest`."""
    return text if ":" in text else f"{text}:latest"
