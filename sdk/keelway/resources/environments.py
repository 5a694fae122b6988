"""Environments and their locks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keelway.contracts.environment_json import EnvironmentDefinition
from keelway.contracts.environments import (
    Environment,
    EnvironmentLock,
    EnvironmentVersion,
    EnvironmentVersionCreate,
    LockDiff,
)
from keelway.contracts.images import MAX_CONTEXT_BYTES, BuildContext, EnvironmentBuild, RegistryCredentials
from keelway.contracts.operations import Operation
from keelway.errors import InvalidInput
from keelway.resources.base import SLOW_ANSWER_S, Resource, checked, dumped, parsed, segment
from keelway.resources.models import split_reference
from keelway.resources.snapshots import snapshot_files
from keelway.uploads import Progress


class Environments(Resource):
    """`{w}/environments`."""

    def register(
        self,
        name: str,
        *,
        conda_file: str | Path | None = None,
        pip_requirements: str | Path | Sequence[str] | None = None,
        python_version: str | None = None,
        environment_variables: dict[str, str] | None = None,
        wheels: Sequence[str | Path] = (),
        base_image: str | None = None,
        base_image_registry: RegistryCredentials | None = None,
        dockerfile: str | Path | None = None,
        build_context: str | Path | BuildContext | None = None,
        user_managed_dependencies: bool = False,
        real_azureml: bool = False,
        progress: Progress | None = None,
    ) -> EnvironmentVersion:
        """Resolve what is asked for to a lock. The same content gives the version that exists already.

        `conda_file` and `dockerfile` are paths. `pip_requirements` is a path to a requirements file, or a list of its
        lines. `wheels` are paths of packages of your own; `build_context` is a folder with a Dockerfile. Both are
        uploaded first.
        """
        body = checked(
            EnvironmentVersionCreate,
            conda_file=_text(conda_file),
            pip_requirements=_text(pip_requirements),
            python_version=python_version,
            environment_variables=environment_variables or {},
            base_image=base_image,
            base_image_registry=base_image_registry,
            dockerfile=_text(dockerfile),
            build_context=self._context(build_context, progress),
            wheels=self._wheels(wheels, progress),
            user_managed_dependencies=user_managed_dependencies,
            real_azureml=real_azureml,
        )
        return self._register(name, body)

    def register_definition(
        self,
        definition: Mapping[str, Any] | str | Path,
        name: str | None = None,
        *,
        python_version: str | None = None,
        environment_variables: dict[str, str] | None = None,
        wheels: Sequence[str | Path] = (),
        real_azureml: bool = False,
        progress: Progress | None = None,
    ) -> EnvironmentVersion:
        """Register the Environment JSON of the Azure ML SDK v1, given as a document or as the path of a file.

        `name` is that of the document unless given. A `condaDependenciesFile`, relative to the file, is put into it.
        """
        document, folder = _document(definition)
        body = checked(
            EnvironmentVersionCreate,
            definition=_with_conda_file(document, folder),
            python_version=python_version,
            environment_variables=environment_variables or {},
            wheels=self._wheels(wheels, progress),
            real_azureml=real_azureml,
        )
        name = name or (body.definition.name if body.definition else None)
        if name is None:
            raise InvalidInput("the definition has no name; give one")
        return self._register(name, body)

    def get(self, name: str, version: str | int = "latest") -> EnvironmentVersion:
        """A version: a number or `latest`. The name may carry it: `sklearn:3`."""
        return self._get(EnvironmentVersion, self._version(name, version))

    def list(self, *, name: str | None = None) -> Iterator[Environment]:
        """Environments with their newest version; with `name` only that one, if it is there."""
        return self._pages(Environment, f"{self._workspace}/environments", {"name": name})

    def versions(self, name: str) -> Iterator[EnvironmentVersion]:
        """All versions of one, the newest first."""
        return self._pages(EnvironmentVersion, f"{self._path(name)}/versions")

    def definition(self, name: str, version: str | int = "latest") -> EnvironmentDefinition:
        """A version as the Environment JSON of the Azure ML SDK v1, without a registry's password."""
        return self._get(EnvironmentDefinition, f"{self._version(name, version)}/definition")

    def lock(self, name: str, version: str | int = "latest") -> EnvironmentLock:
        """The exact packages a version was resolved to, with their hashes."""
        return self._get(EnvironmentLock, f"{self._version(name, version)}/lock")

    def lock_diff(self, name: str, before: str | int, after: str | int = "latest") -> LockDiff:
        """What became of the lock from one version to another: packages added, removed, and in other versions."""
        return self._get(LockDiff, f"{self._version(name, after)}/lock/diff", {"from": str(before)})

    def build(self, name: str, version: str | int = "latest", *, target: str = "process") -> Operation:
        """Have it built ahead of its first use: on a node, or with the target `docker` as an image."""
        body = None if target == "process" else checked(EnvironmentBuild, target=target)
        return self._send(Operation, "POST", f"{self._version(name, version)}/build", body)

    def _register(self, name: str, body: EnvironmentVersionCreate) -> EnvironmentVersion:
        # What is not asked for is not said: an API of the release before would refuse to hear of it.
        said = {key: value for key, value in dumped(body).items() if value is not False}
        path = f"{self._path(name)}/versions"
        return parsed(EnvironmentVersion, self._client.request("POST", path, json=said, timeout_s=SLOW_ANSWER_S))

    def _wheels(self, paths: Sequence[str | Path], progress: Progress | None) -> str | None:
        if not paths:
            return None
        files = {Path(path).name: Path(path) for path in paths}
        if len(files) < len(paths):
            raise InvalidInput("two of the wheels have the same name")
        return self._client.snapshots.upload_files(files, progress=progress).digest

    def _context(self, context: str | Path | BuildContext | None, progress: Progress | None) -> BuildContext | None:
        if context is None or isinstance(context, BuildContext):
            return context
        files = snapshot_files(context, needed=["Dockerfile"])
        size_bytes = sum(file.stat().st_size for file in files.values())
        if size_bytes > MAX_CONTEXT_BYTES:
            raise InvalidInput(
                f"the build context {context} has {size_bytes:,} bytes; {MAX_CONTEXT_BYTES:,} are taken. "
                "Leave data out of it"
            )
        snapshot = self._client.snapshots.upload_files(files, progress=progress)
        return BuildContext(snapshot=snapshot.digest)

    def _path(self, name: str) -> str:
        return f"{self._workspace}/environments/{segment(name)}"

    def _version(self, name: str, version: str | int) -> str:
        name, version = split_reference(name, version)
        return f"{self._path(name)}/versions/{segment(version)}"


def _text(source: str | Path | Sequence[str] | None) -> str | None:
    if source is None:
        return None
    if not isinstance(source, str | Path):
        return "\n".join(source)
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{source} cannot be read: {error}") from error


def _document(source: Mapping[str, Any] | str | Path) -> tuple[dict[str, Any], Path]:
    """The document and the folder that its paths are relative to."""
    if isinstance(source, Mapping):
        return dict(source), Path()
    try:
        document = json.loads((_text(source) or "").removeprefix("\ufeff"))
    except ValueError as error:
        raise InvalidInput(f"{source} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{source} does not hold a JSON object")
    return document, Path(source).parent


def _with_conda_file(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document with what stood in the conda file that it names: the server has no such file."""
    python = document.get("python")
    path = python.get("condaDependenciesFile") if isinstance(python, dict) else None
    if not isinstance(python, dict) or not isinstance(path, str):
        return document
    if python.get("condaDependencies"):
        raise InvalidInput("give either condaDependencies or condaDependenciesFile, not both")
    dependencies = _yaml(folder / path)
    return {**document, "python": {**python, "condaDependenciesFile": None, "condaDependencies": dependencies}}


def _yaml(path: Path) -> Any:
    try:
        import yaml  # noqa: PLC0415  (comes with the extra `cli` only)
    except ImportError:
        raise InvalidInput(f"reading {path} needs pyyaml: pip install 'keelway-sdk[cli]'") from None
    try:
        return yaml.safe_load(_text(path) or "")
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path} is not YAML: {error}") from error
