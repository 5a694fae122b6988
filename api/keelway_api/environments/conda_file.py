"""Reading conda environment files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from keelway_api.environments import conda, requirements
from keelway_api.errors import EnvironmentInvalid

KEYS = frozenset({"name", "channels", "dependencies", "prefix", "variables"})
CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}){0,3}")
NO_DEFAULTS = "nodefaults"  # conda's word for "only the channels above"
MAX_CHANNELS = 20
MAX_LINES = 10_000
MAX_CHARACTERS = 262_144


@dataclass(frozen=True)
class CondaFile:
    """What a conda file asks for. `python` is a version specifier, or None when any will do."""

    python: SpecifierSet | None
    pip: tuple[str, ...]
    variables: dict[str, str]
    packages: tuple[str, ...] = ()
    specs: tuple[conda.CondaSpec, ...] = ()
    channels: tuple[str, ...] = ()


def read(text: str, *, real_azureml: bool = False) -> CondaFile:
    """The file in a text. Raises EnvironmentInvalid naming the line."""
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
    return read_document(document, real_azureml=real_azureml)


def read_document(document: dict[Any, Any], *, real_azureml: bool = False) -> CondaFile:
    """The file in a mapping. Raises EnvironmentInvalid naming the line."""
    if unknown := sorted(str(key)[:200] for key in document.keys() - KEYS):
        raise EnvironmentInvalid(unknown[0], f"not a key of a conda file; known are {', '.join(sorted(KEYS))}")
    python: SpecifierSet | None = None
    lines: list[str] = []
    packages: dict[str, conda.CondaSpec] = {}
    for entry in _list(document.get("dependencies"), "dependencies"):
        if isinstance(entry, dict) and set(entry) == {"pip"}:
            _add(lines, _list(entry["pip"], "pip"))
        elif not isinstance(entry, str):
            raise EnvironmentInvalid("dependencies", f"{_kind(entry)} is neither a package nor a 'pip:' list")
        elif (spec := _package(entry)).name == "python":
            python = _python(entry, spec) or python
        elif spec.name != "pip":
            packages[entry] = spec
    channels = _channels(document.get("channels"), packages) if packages else ()
    variables = _variables(document.get("variables"))
    pip = requirements.read(lines, real_azureml=real_azureml)
    return CondaFile(python, pip, variables, tuple(packages), tuple(packages.values()), channels)


def _add(lines: list[str], more: list[Any]) -> None:
    """Raises EnvironmentInvalid for too many lines: one can stand in a small file a million times, by its anchor."""
    size = sum(map(len, lines))
    for line in more:
        size += len(_text(line, "pip"))
        if len(lines) >= MAX_LINES or size > MAX_CHARACTERS:
            raise EnvironmentInvalid("pip", f"more than {MAX_LINES} lines or {MAX_CHARACTERS} characters")
        lines.append(line)


def _package(line: str) -> conda.CondaSpec:
    spec = conda.parse(line)
    if spec is None:
        raise EnvironmentInvalid(line, "not a conda package; write for example python=3.11")
    if spec.name != "python" and not spec.is_plain:
        raise EnvironmentInvalid(line, "not a conda package with a version; write for example numpy=1.26")
    return spec


def _python(line: str, spec: conda.CondaSpec) -> SpecifierSet | None:
    try:
        return conda.python_versions(spec.constraints)
    except InvalidSpecifier as error:
        hint = "write for example python=3.11 or python>=3.10,<3.13"
        raise EnvironmentInvalid(line, f"not python versions that are understood here; {hint}") from error


def _channels(value: Any, packages: dict[str, conda.CondaSpec]) -> tuple[str, ...]:
    """The channels, the preferred one first; also those that single packages name."""
    listed = [_channel(each) for each in _list(value, "channels")]
    named = [spec.channel for spec in packages.values() if spec.channel]
    for line, spec in packages.items():
        if spec.channel and not CHANNEL.fullmatch(spec.channel):
            raise EnvironmentInvalid(line, "not the name of a channel")
    found = tuple(dict.fromkeys(each for each in [*listed, *named] if each != NO_DEFAULTS))
    if len(found) > MAX_CHANNELS:
        raise EnvironmentInvalid("channels", f"at most {MAX_CHANNELS} are taken")
    return found


def _channel(value: Any) -> str:
    name = _text(value, "channels")
    if not CHANNEL.fullmatch(name):
        raise EnvironmentInvalid(name, "a channel is given by its name; its address is the operator's to set")
    return name


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise EnvironmentInvalid(name, "must be a list")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        what = "channel" if name == "channels" else "requirement"
        raise EnvironmentInvalid(name, f"{_kind(value)} is no {what}")
    return value


def _kind(value: Any) -> str:
    """What a value is, never the value itself: a small file can unfold to gigabytes."""
    return f"a {type(value).__name__}"


def _variables(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EnvironmentInvalid("variables", "must be a mapping")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str | int | float):
            raise EnvironmentInvalid("variables", f"{_kind(key)} with {_kind(item)} is no variable")
    return {key: str(item) for key, item in value.items()}
