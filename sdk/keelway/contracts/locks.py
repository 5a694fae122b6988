"""What stands in a lock, package by package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from keelway.contracts.environments import LockedPackage

_PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)==(\S+?)(?:\s*;\s*(.+?))?\s*\\?")
_WHEEL = re.compile(r"([A-Za-z0-9][\w.-]*) @ file://\S*?/([^/\s]+\.whl)\s*\\?")
_HASH = re.compile(r"\s*--hash=sha256:([0-9a-f]{64})\s*\\?")


@dataclass(frozen=True)
class LockedFile:
    """A package of a lock, with the sha256 of each file that may be installed for it."""

    package: LockedPackage
    sha256: tuple[str, ...]


def locked_files(requirements: str, conda: str | None = None) -> list[LockedFile]:
    """The packages of a lock with their digests: conda's first, each part by name."""
    return [*_conda(conda), *_pip(requirements)]


def packages_of(requirements: str, conda: str | None = None) -> list[LockedPackage]:
    """The packages of a lock: conda's first, each part by name."""
    return [each.package for each in locked_files(requirements, conda)]


def _conda(text: str | None) -> Iterator[LockedFile]:
    for record in json.loads(text)["records"] if text else ():
        package = LockedPackage(name=record["name"], version=record["version"], manager="conda", source=record["url"])
        digest = record.get("sha256")
        yield LockedFile(package, (digest,) if digest else ())


def _pip(requirements: str) -> Iterator[LockedFile]:
    package: LockedPackage | None = None
    hashes: list[str] = []
    for line in [*requirements.splitlines(), ""]:
        if found := _HASH.fullmatch(line):
            hashes.append(found[1])
            continue
        if package is not None:
            yield LockedFile(package, tuple(hashes))
        package, hashes = _package(line), []


def _package(line: str) -> LockedPackage | None:
    if found := _PINNED.fullmatch(line):
        return LockedPackage(name=found[1], version=found[2], manager="pip", marker=found[3])
    if found := _WHEEL.fullmatch(line):
        file = unquote(found[2])
        return LockedPackage(name=found[1], version=file.split("-")[1], manager="pip", source=file)
    return None
