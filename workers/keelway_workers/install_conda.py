"""Installs locked conda packages: `python -I install_conda.py LOCK FOLDER PLACE CACHE`.

They are put into FOLDER and told that they lie in PLACE, where that folder is moved when all of it is there. Scripts of
packages are not run. A program of its own, so that it can be ended with everything else of an attempt, and since what
it imports is slow to import.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import rattler


class Lines(rattler.InstallerReporter):
    """Says what is done, a line for each package."""

    def on_transaction_start(self, total_operations: int) -> None:
        """All begins."""
        _say(f"Installing {total_operations} conda packages")

    def on_link_start(self, operation: int, package_name: str) -> int:
        """A package's files are put into the folder."""
        _say(f" + {package_name}")
        return operation


def main() -> None:
    """Install; on failure the last line says why."""
    lock, folder, place, cache = sys.argv[1:]
    code = 0
    try:
        records = [_record(each) for each in json.loads(Path(lock).read_text(encoding="utf-8"))["records"]]
        asyncio.run(_install(records, Path(folder), Path(place), Path(cache)))
    except Exception as error:  # noqa: BLE001 - the edge of a process
        _say(f"error: {' '.join(str(error.args[0] if error.args else error).split())}")
        code = 1
    # Not by way of Python's own end: threads of the installer that still report to it would abort.
    os._exit(code)


async def _install(records: list[rattler.RepoDataRecord], folder: Path, place: Path, cache: Path) -> None:
    await rattler.install(
        records,
        target_prefix=folder,
        alternative_target_prefix=place,
        cache_dir=cache,
        execute_link_scripts=False,
        reporter=Lines(),
    )


def _check_file(said: dict[str, Any]) -> None:
    """Raises ValueError for a package on this disk whose bytes are others: the installer compares what it downloads."""
    address = urlsplit(said["url"])
    if address.scheme != "file":
        return
    with Path(unquote(address.path)).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != said["sha256"]:
        raise ValueError(f"the bytes of {said['url']} have the sha256 {found}, not {said['sha256']}")


def _record(said: dict[str, Any]) -> rattler.RepoDataRecord:
    _check_file(said)
    package = rattler.PackageRecord(
        said["name"],
        said["version"],
        rattler.BuildString(said["build"]),
        said["build_number"],
        said["subdir"],
        noarch=said.get("noarch"),
        depends=said["depends"],
        constrains=said.get("constrains"),
        sha256=bytes.fromhex(said["sha256"]),  # what the bytes that come are compared with
        md5=bytes.fromhex(said["md5"]) if said.get("md5") else None,
        size=said.get("size"),
        python_site_packages_path=said.get("python_site_packages_path"),
    )
    return rattler.RepoDataRecord(package, said["fn"], said["url"], said["channel"])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
