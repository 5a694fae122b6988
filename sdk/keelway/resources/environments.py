"""Environments and their locks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from keelway.contracts.environments import Environment, EnvironmentLock, EnvironmentVersion, EnvironmentVersionCreate
from keelway.contracts.operations import Operation
from keelway.errors import InvalidInput
from keelway.resources.base import SLOW_ANSWER_S, Resource, checked, segment
from keelway.resources.models import split_reference


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
    ) -> EnvironmentVersion:
        """Resolve what is asked for to a lock. The same content gives the version that exists already.

        `conda_file` is a path. `pip_requirements` is a path to a requirements file, or a list of its lines.
        """
        body = checked(
            EnvironmentVersionCreate,
            conda_file=_text(conda_file),
            pip_requirements=_text(pip_requirements),
            python_version=python_version,
            environment_variables=environment_variables or {},
        )
        return self._send(EnvironmentVersion, "POST", f"{self._path(name)}/versions", body, timeout_s=SLOW_ANSWER_S)

    def get(self, name: str, version: str | int = "latest") -> EnvironmentVersion:
        """A version: a number or `latest`. The name may carry it: `sklearn:3`."""
        return self._get(EnvironmentVersion, self._version(name, version))

    def list(self, *, name: str | None = None) -> Iterator[Environment]:
        """Environments with their newest version; with `name` only that one, if it is there."""
        return self._pages(Environment, f"{self._workspace}/environments", {"name": name})

    def lock(self, name: str, version: str | int = "latest") -> EnvironmentLock:
        """The exact packages a version was resolved to, with their hashes."""
        return self._get(EnvironmentLock, f"{self._version(name, version)}/lock")

    def build(self, name: str, version: str | int = "latest") -> Operation:
        """Have it built ahead of its first use."""
        return self._send(Operation, "POST", f"{self._version(name, version)}/build")

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
