"""What stands in a lock, package by package, and what differs between two."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from keelway.contracts.environments import ChangedPackage, LockedPackage, Manager

PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)==(\S+?)(?:\s*;\s*(.+?))?\s*\\?")
WHEEL = re.compile(r"([A-Za-z0-9][\w.-]*) @ file://\S*?/([^/\s]+\.whl)\s*\\?")


@dataclass(frozen=True)
class Difference:
    """From one lock to another."""

    added: list[LockedPackage]
    removed: list[LockedPackage]
    changed: list[ChangedPackage]


def packages_of(requirements: str, conda: str | None = None) -> list[LockedPackage]:
    """The packages of a lock: conda's first, each part by name."""
    return [*_conda(conda), *filter(None, map(_pip, requirements.splitlines()))]


def _conda(text: str | None) -> Iterable[LockedPackage]:
    for record in json.loads(text)["records"] if text else ():
        yield LockedPackage(name=record["name"], version=record["version"], manager="conda", source=record["url"])


def _pip(line: str) -> LockedPackage | None:
    if found := PINNED.fullmatch(line):
        return LockedPackage(name=found[1], version=found[2], manager="pip", marker=found[3])
    if found := WHEEL.fullmatch(line):
        file = unquote(found[2])
        return LockedPackage(name=found[1], version=file.split("-")[1], manager="pip", source=file)
    return None


def difference(before: Iterable[LockedPackage], after: Iterable[LockedPackage]) -> Difference:
    """What came, what went, and what has another version; a name that stands several times has several versions."""
    old, new = _by_name(before), _by_name(after)
    return Difference(
        added=[each for key in sorted(new.keys() - old.keys()) for each in new[key]],
        removed=[each for key in sorted(old.keys() - new.keys()) for each in old[key]],
        changed=[
            ChangedPackage(name=name, manager=manager, from_version=_versions(old[key]), to_version=_versions(new[key]))
            for key in sorted(old.keys() & new.keys())
            if _versions(old[key]) != _versions(new[key])
            for manager, name in [key]
        ],
    )


def _by_name(packages: Iterable[LockedPackage]) -> dict[tuple[Manager, str], list[LockedPackage]]:
    found: dict[tuple[Manager, str], list[LockedPackage]] = {}
    for package in packages:
        found.setdefault((package.manager, package.name), []).append(package)
    return found


def _versions(packages: list[LockedPackage]) -> str:
    return ", ".join(dict.fromkeys(package.version for package in packages))
