"""Solves conda packages: a program that reads a request as JSON and writes an answer as JSON.

A program of its own, so that it can be bounded and ended, and since the solver is slow to import. It runs nothing of
the packages: channels' indexes are all that it reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from typing import Any

import rattler
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from rattler.exceptions import GatewayError, InvalidMatchSpecError, SolverError

OLDEST = Version("3.9")
GLIBC = "2.28"  # as for wheels, see resolver.py
NO_CHANNEL = "could not find subdir"
DROPPED = {"indexed_timestamp"}  # when the channel was indexed, not what was


class InvalidSpec(Exception):  # noqa: N818
    """A line that the solver does not understand."""

    def __init__(self, line: str, why: str) -> None:
        super().__init__(why)
        self.line = line


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    try:
        answer = asyncio.run(solve(request))
    except InvalidSpec as error:
        answer = {"invalid": error.line, "why": str(error)}
    except GatewayError as error:
        words = str(error.args[0] if error.args else error)
        answer = {"no_channel" if NO_CHANNEL in words else "away": words.splitlines()[0]}
    except SolverError as error:
        answer = {"unsolvable": str(error).strip()}
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    # Not by way of Python's own end: threads of the solver that are still there would abort.
    os._exit(0)


async def solve(request: dict[str, Any]) -> dict[str, Any]:
    """The records that satisfy `specs`, or which pythons the channels have when none is as wanted."""
    specs = [_spec(each, request["channels"]) for each in request["specs"]]
    channels = {name: rattler.Channel(url) for name, url in request["channels"].items()}
    platforms = [request["subdir"], "noarch"]
    gateway = rattler.Gateway()
    pythons = await _pythons(gateway, list(channels.values()), platforms)
    fitting = [each for each in pythons if _fits(each, request["python"])]
    if not fitting:
        return {"pythons": pythons}
    records = await rattler.solve(
        sources=list(channels.values()),
        specs=[*specs, rattler.MatchSpec(f"python {'|'.join(f'{each}.*' for each in fitting)}")],
        gateway=gateway,
        platforms=platforms,
        virtual_packages=_virtual(request["subdir"]),
        timeout=timedelta(seconds=request["timeout_s"]),
    )
    return {"records": sorted((_plain(each) for each in records), key=lambda record: record["name"])}


async def _pythons(gateway: rattler.Gateway, channels: list[rattler.Channel], platforms: list[Any]) -> list[str]:
    """The minor versions of Python that the channels have and that the runtime runs on, the newest first."""
    found = await gateway.query(channels, platforms, ["python"], recursive=False)
    versions: set[Version] = set()
    for record in (record for records in found for record in records):
        try:
            version = Version(str(record.version))
        except InvalidVersion:
            continue
        if version >= OLDEST and not version.is_prerelease:
            versions.add(Version(f"{version.major}.{version.minor}"))
    return [str(version) for version in sorted(versions, reverse=True)]


def _fits(minor: str, wanted: str | None) -> bool:
    # Some patch release of it does: `>=3.9.2` is no reason against 3.9.
    patches = (f"{minor}.{patch}" for patch in (0, 99))
    return wanted is None or any(SpecifierSet(wanted).contains(patch) for patch in patches)


def _spec(spec: dict[str, str | None], channels: dict[str, str]) -> rattler.MatchSpec:
    match = f"{channels[spec['channel']]}::{spec['match']}" if spec["channel"] else str(spec["match"])
    try:
        return rattler.MatchSpec(match)
    except InvalidMatchSpecError as error:
        raise InvalidSpec(str(spec["line"]), str(error)) from error


def _virtual(subdir: str) -> list[rattler.GenericVirtualPackage]:
    architecture = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}[subdir]
    has = {"__unix": ("0", "0"), "__linux": ("4.18", "0"), "__glibc": (GLIBC, "0"), "__archspec": ("1", architecture)}
    return [
        rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build))
        for name, (version, build) in has.items()
    ]


def _plain(record: rattler.RepoDataRecord) -> dict[str, Any]:
    return {key: value for key, value in json.loads(record.to_json()).items() if key not in DROPPED}


if __name__ == "__main__":
    main()
