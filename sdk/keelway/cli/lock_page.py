"""Locks, and what differs between two, as pages for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keelway.cli import output

if TYPE_CHECKING:
    from keelway.contracts.environments import EnvironmentLock, LockDiff, LockedPackage


def lock_page(lock: EnvironmentLock) -> str:
    """A lock: what it is for, then its packages."""
    head = output.fields(
        python=lock.python_version or "the image's own",
        platform=lock.platform or "any",
        packages=len(lock.packages),
        digest=lock.digest,
    )
    if not lock.packages:
        return f"{head}\n\nnothing is locked"
    has_markers = any(package.marker for package in lock.packages)
    headers = ["package", "version", "from", *(["when"] if has_markers else [])]
    rows = [
        [package.name, package.version, _origin(package), *([package.marker or ""] if has_markers else [])]
        for package in lock.packages
    ]
    return f"{head}\n\n{output.columns(headers, rows)}"


def diff_page(diff: LockDiff) -> str:
    """What differs between two locks, in groups; those without anything are left out."""
    parts = [_group("added", diff.added), _group("removed", diff.removed), _changed(diff)]
    shown = "\n\n".join(part for part in parts if part) or "the locks have the same packages"
    return f"{diff.name}: version {diff.from_version} to {diff.to_version}\n\n{shown}"


def _group(title: str, packages: list[LockedPackage]) -> str:
    rows = [[package.name, package.version, _origin(package)] for package in packages]
    return output.section(title, output.columns(["package", "version", "from"], rows)) if rows else ""


def _changed(diff: LockDiff) -> str:
    rows = [[each.name, each.from_version, each.to_version, each.manager] for each in diff.changed]
    if diff.from_python != diff.to_python:
        rows.insert(0, ["python", diff.from_python, diff.to_python, ""])
    if not rows:
        return ""
    return output.section("changed", output.columns(["package", "was", "is", "from"], rows))


def _origin(package: LockedPackage) -> str:
    """Where a package comes from: pip's index, a channel of conda, a wheel of one's own."""
    if package.source is None:
        return package.manager
    if package.manager == "pip":
        return f"wheel {package.source}"
    channel = package.source.rsplit("/", 2)[0]
    return f"conda {channel.rpartition('/')[2]}"
