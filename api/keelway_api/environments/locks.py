"""What differs between two locks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keelway.contracts.environments import ChangedPackage, LockedPackage, Manager


@dataclass(frozen=True)
class Difference:
    """From one lock to another."""

    added: list[LockedPackage]
    removed: list[LockedPackage]
    changed: list[ChangedPackage]


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
