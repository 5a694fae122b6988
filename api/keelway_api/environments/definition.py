"""Reading what users hand in: conda environment files and pip requirements, line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from keelway.contracts.environments import EnvironmentVersionCreate
from keelway_api.environments import conda
from keelway_api.errors import EnvironmentInvalid, PythonNotAvailable

# In a conda file of the old system these mean "the scoring server": here that is the runtime, with its own shims.
RUNTIME_ITSELF = frozenset(
    {"azureml-defaults", "azureml-contrib-services", "azureml-monitoring", "azureml-inference-server-http"}
)
CONDA_KEYS = frozenset({"name", "channels", "dependencies", "prefix", "variables"})
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OLDEST = Version("3.9")


@dataclass(frozen=True)
class Definition:
    """What an environment asks for. `python` is a version specifier, or None when any will do."""

    python: SpecifierSet | None
    requirements: tuple[str, ...]
    variables: dict[str, str]


def read(body: EnvironmentVersionCreate) -> Definition:
    """The definition in a request. Raises EnvironmentInvalid naming the line."""
    if body.conda_file is not None:
        found = _conda(body.conda_file)
    else:
        found = Definition(None, _pip((body.pip_requirements or "").splitlines()), {})
    python = conda.python_versions([body.python_version]) if body.python_version else found.python
    return Definition(python, found.requirements, _checked({**found.variables, **body.environment_variables}))


def _conda(text: str) -> Definition:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "the file"
        raise EnvironmentInvalid(where, f"not YAML: {getattr(error, 'problem', error)}") from error
    except (ValueError, RecursionError) as error:  # a date or number that is none; brackets in brackets
        raise EnvironmentInvalid("the file", f"not YAML that can be read: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise EnvironmentInvalid("the file", "a conda file is a mapping with 'dependencies'")
    if unknown := sorted(str(key)[:200] for key in document.keys() - CONDA_KEYS):
        raise EnvironmentInvalid(unknown[0], f"not a key of a conda file; known are {', '.join(sorted(CONDA_KEYS))}")
    python: SpecifierSet | None = None
    pip: tuple[str, ...] = ()
    for entry in _list(document.get("dependencies"), "dependencies"):
        if isinstance(entry, dict) and set(entry) == {"pip"}:
            pip += _pip([_text(line, "pip") for line in _list(entry["pip"], "pip")])
        elif isinstance(entry, str):
            python = _conda_package(entry) or python
        else:
            raise EnvironmentInvalid("dependencies", f"{_kind(entry)} is neither a package nor a 'pip:' list")
    return Definition(python, pip, _variables(document.get("variables")))


def _conda_package(line: str) -> SpecifierSet | None:
    """The specifier when the line asks for python, None for pip. Any other conda package is refused."""
    spec = conda.parse(line)
    if spec is None:
        raise EnvironmentInvalid(line, "not a conda package; write for example python=3.11")
    if spec.name == "python":
        return _python_versions(line, spec.constraints)
    if spec.name == "pip":
        return None
    instead = f"if PyPI has it, write {conda.as_pip(spec)!r} under 'pip:'"
    raise EnvironmentInvalid(line, f"of conda packages only python and pip are installed; {instead}")


def _python_versions(line: str, constraints: tuple[str, ...]) -> SpecifierSet | None:
    try:
        return conda.python_versions(constraints)
    except InvalidSpecifier as error:
        hint = "write for example python=3.11 or python>=3.10,<3.13"
        raise EnvironmentInvalid(line, f"not python versions that are understood here; {hint}") from error


def _pip(lines: list[str]) -> tuple[str, ...]:
    """Requirements without comments, the runtime's own names taken out. Raises EnvironmentInvalid."""
    kept: list[str] = []
    for raw in lines:
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if line and (requirement := _requirement(line)):
            kept.append(requirement)
    return tuple(kept)


def _requirement(line: str) -> str | None:
    if line.startswith("-"):
        raise EnvironmentInvalid(line, "options are not read here; indexes are the operator's to set")
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise EnvironmentInvalid(line, f"not a requirement: {str(error).splitlines()[0]}") from error
    if requirement.url:
        raise EnvironmentInvalid(line, "packages are taken from the operator's index, not from a URL or path")
    return None if canonicalize_name(requirement.name) in RUNTIME_ITSELF else str(requirement)


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise EnvironmentInvalid(name, "must be a list")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise EnvironmentInvalid(name, f"{_kind(value)} is no requirement")
    return value


def _kind(value: Any) -> str:
    """What a value is, never the value itself: a small file can unfold to gigabytes."""
    return f"a {type(value).__name__}"


def _checked(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not VARIABLE.fullmatch(name):
            raise EnvironmentInvalid(name[:200], "not a name that an environment variable can have")
        if "\0" in value:
            raise EnvironmentInvalid(name, "its value holds NUL")
    return variables


def _variables(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EnvironmentInvalid("variables", "must be a mapping")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str | int | float):
            raise EnvironmentInvalid("variables", f"{_kind(key)} with {_kind(item)} is no variable")
    return {key: str(item) for key, item in value.items()}


def choose_python(wanted: SpecifierSet | None, available: list[str]) -> str:
    """The major.minor to resolve for: the first that fits of what the nodes have, in their order of preference.

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
