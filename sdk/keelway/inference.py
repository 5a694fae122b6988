"""An inference config as it lies on disk: an entry script in a folder, and what it needs."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keelway.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class InferenceSource:
    """How a model is to be served.

    `entry_script`, `conda_file` and `extra_docker_file_steps` are relative to `source_directory` and lie in it;
    `source_directory` is relative to the working directory. `extra_docker_file_steps` is a file of RUN, ENV, ARG and
    LABEL instructions for the Dockerfile of an image.

    `environment` names a registered one (`name` or `name:version`); `definition` is the Environment JSON of the Azure
    ML SDK v1. They and `conda_file` exclude each other. With none of them, the script gets an environment with nothing
    in it but what scoring itself needs.
    """

    entry_script: str
    source_directory: str | Path = "."
    conda_file: str | None = None
    environment: str | None = None
    definition: Mapping[str, Any] | None = None
    description: str = ""
    extra_docker_file_steps: str | None = None

    def check(self) -> None:
        """InvalidInput when the script or the conda file cannot work; nothing needs to be sent to find that out."""
        if sum(each is not None for each in (self.environment, self.definition, self.conda_file)) > 1:
            raise InvalidInput("give either an environment, its definition or a conda file, not both")
        if not self.folder.is_dir():
            raise InvalidInput(f"the source directory {self.source_directory} is not a folder")
        _check_script(self._inside(self.entry_script, "entry script"))
        if self.conda_file:
            self._inside(self.conda_file, "conda file")
        self.docker_steps()

    @property
    def folder(self) -> Path:
        """The source directory as a path."""
        return Path(self.source_directory)

    @property
    def conda_path(self) -> Path | None:
        """Where the conda file is, if there is one."""
        return self.folder / self.conda_file if self.conda_file else None

    def docker_steps(self) -> str | None:
        """The text of its file of Dockerfile instructions. InvalidInput when it cannot be read."""
        if not self.extra_docker_file_steps:
            return None
        path = self._inside(self.extra_docker_file_steps, "file of Dockerfile steps")
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the file of Dockerfile steps {path} is not UTF-8: {error}") from error

    def _inside(self, relative: str, what: str) -> Path:
        path = self.folder / relative
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise InvalidInput(f"the {what} {relative} lies outside its source directory {self.source_directory}")
        if not path.is_file():
            raise InvalidInput(f"the {what} {path} does not exist")
        return path


def _check_script(path: Path) -> None:
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidInput(f"the entry script {path.name} cannot be imported: it must be a Python identifier and .py")
    try:
        ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise InvalidInput(f"the entry script does not parse: {error}") from error
