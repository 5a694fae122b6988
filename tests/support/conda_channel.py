"""A small conda channel on disk: a python that runs, and a few packages without any code of a platform's own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import platform
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO, Any, cast

from rattler.index import index_fs

from tests.support.images import docker

PYTHON_VERSION = platform.python_version()
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NATIVE = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[platform.machine()]
SITE_PACKAGES = "site-packages"

Files = dict[str, bytes | Path]
"""Contents by path; a Path is a link to there."""


def make_channel(folder: Path, python: tuple[str, Files] | None = None) -> str:
    """The channel's `file://` address.

    It has python, by default one that runs on this machine only; `tides` 1.0 and 2.0, which are Python packages, 2.0
    needing `moon`; `moon`, a file without Python; and `stuck`, which nothing satisfies.
    """
    version, files = python or (PYTHON_VERSION, _interpreter())
    write(folder, NATIVE, record("python", version, subdir=NATIVE), files)
    for version, depends in (("1.0", ["python"]), ("2.0", ["python", "moon >=1"])):
        write(folder, "noarch", record("tides", version, *depends, noarch="python"), python_package("tides", version))
    write(folder, "noarch", record("moon", "1.5", noarch="generic"), {"share/moon.txt": b"full"})
    write(folder, "noarch", record("stuck", "1.0", "no-such-thing >=3", noarch="generic"), {"share/stuck": b""})
    asyncio.run(index_fs(folder))
    return folder.as_uri()


def record(name: str, version: str, *depends: str, **more: Any) -> dict[str, Any]:
    """A package's index.json."""
    base = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": list(depends)}
    return {**base, "subdir": "noarch", **more}


def python_package(name: str, version: str) -> Files:
    """A module that knows its version, and what says to pip that it is there."""
    info = f"{SITE_PACKAGES}/{name}-{version}.dist-info"
    return {
        f"{SITE_PACKAGES}/{name}.py": f"version = {version!r}\n".encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/RECORD": b"",
        f"{info}/INSTALLER": b"conda",
    }


def _interpreter() -> Files:
    """A venv of the Python that runs the tests: an interpreter of a megabyte's weight less."""
    home = Path(sys._base_executable).resolve()  # pyright: ignore[reportAttributeAccessIssue]
    config = f"home = {home.parent}\ninclude-system-site-packages = false\nversion = {PYTHON_VERSION}\n"
    return {
        "pyvenv.cfg": config.encode(),
        f"lib/python{PYTHON}/{SITE_PACKAGES}/README.txt": b"",
        "bin/python": home,
        "bin/python3": home,
        f"bin/python{PYTHON}": home,
    }


# Of a Python's library: what takes much room and no script needs.
LEFT_OUT = {"test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "__pycache__"}


def python_of(image: str) -> tuple[str, Files]:
    """The Python of a Debian image and its version: it finds its library beside itself wherever it lies."""
    version = docker("run", "--rm", image, "python3", "-c", "import platform; print(platform.python_version())")
    minor = version.rpartition(".")[0]
    program, library = f"bin/python{minor}", f"lib/python{minor}"
    container = docker("create", image)
    try:
        found = {**_copied(container, f"/usr/{program}", "bin"), **_copied(container, f"/usr/{library}", "lib")}
    finally:
        docker("rm", container)
    links = {name: Path(f"python{minor}") for name in ("bin/python", "bin/python3")}
    # Debian's looks for packages elsewhere.
    custom = f"import site, sys\nsite.addsitedir(f'{{sys.prefix}}/{library}/{SITE_PACKAGES}')\n".encode()
    more = {f"{library}/sitecustomize.py": custom, f"{library}/{SITE_PACKAGES}/README.txt": b""}
    return version, {**links, **found, **more}


def _copied(container: str, path: str, below: str) -> Files:
    packed = subprocess.run(["docker", "cp", f"{container}:{path}", "-"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {
            f"{below}/{member.name}": cast("IO[bytes]", tar.extractfile(member)).read()
            for member in tar
            if member.isfile() and not LEFT_OUT & set(Path(member.name).parts)
        }


def write(channel: Path, subdir: str, index: dict[str, Any], files: Files) -> Path:
    """A package in the form that conda knew first: .tar.bz2."""
    path = channel / subdir / f"{index['name']}-{index['version']}-{index['build']}.tar.bz2"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:bz2", compresslevel=1) as archive:
        for name, content in {**_info(index, files), **files}.items():
            _add(archive, name, content)
    return path


def _info(index: dict[str, Any], files: Files) -> Files:
    link = {"noarch": {"type": index["noarch"]}, "package_metadata_version": 1} if "noarch" in index else {}
    paths = {"paths": [_listed(name, content) for name, content in files.items()], "paths_version": 1}
    documents = {"index.json": index, "paths.json": paths} | ({"link.json": link} if link else {})
    return {f"info/{name}": json.dumps(document).encode() for name, document in documents.items()}


def _listed(name: str, content: bytes | Path) -> dict[str, Any]:
    if isinstance(content, Path):
        return {"_path": name, "path_type": "softlink"}
    return {
        "_path": name,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    member = tarfile.TarInfo(name)
    if isinstance(content, Path):
        member.type, member.linkname = tarfile.SYMTYPE, str(content)
        archive.addfile(member)
    else:
        member.size = len(content)
        member.mode = 0o755 if name.startswith("bin/") else 0o644
        archive.addfile(member, io.BytesIO(content))
