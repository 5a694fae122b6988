"""Private wheels: a snapshot of them, laid out for the resolver, which needs what they say they need."""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.parser import HeaderParser
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from keelway_api.blobs.objects import StoredFile
from keelway_api.blobs.store import BlobStore
from keelway_api.errors import EnvironmentInvalid, InvalidRequest

MAX_WHEELS = 50
MAX_BYTES = 512 * 2**20
MAX_METADATA_BYTES = 2**20
FIELD = "body.wheels"
# Part of a line of the lock: nothing in it may mean anything there.
FILE_NAME = re.compile(r"[A-Za-z0-9_.+!-]{1,250}\.whl")


def check(files: Sequence[StoredFile]) -> None:
    """Raises InvalidRequest unless these are wheels, each of another package, and not too many."""
    if len(files) > MAX_WHEELS or sum(file.size_bytes for file in files) > MAX_BYTES:
        raise InvalidRequest(FIELD, f"at most {MAX_WHEELS} wheels of {MAX_BYTES // 2**20} MiB together are taken")
    seen: set[str] = set()
    for file in files:
        name = _name(file.path)
        if name in seen:
            raise InvalidRequest(FIELD, f"the snapshot has two wheels of {name}")
        seen.add(name)


def _name(path: str) -> str:
    try:
        name, *_ = parse_wheel_filename(path if FILE_NAME.fullmatch(path) else "")
    except InvalidWheelFilename as error:
        raise InvalidRequest(FIELD, f"{path[:200]!r} in the snapshot is not the name of a wheel") from error
    return name


@asynccontextmanager
async def laid_out(store: BlobStore, files: Sequence[StoredFile]) -> AsyncIterator[tuple[Path, ...]]:
    """The wheels in a folder, while inside. Raises EnvironmentInvalid for one that cannot be read or is hostile."""
    with TemporaryDirectory(prefix="keelway-wheels-") as folder:
        paths = tuple(Path(folder) / file.path for file in files)
        for file, path in zip(files, paths, strict=True):
            await _write(store, file, path)
            await anyio.to_thread.run_sync(check_metadata, path)
        yield paths


async def _write(store: BlobStore, file: StoredFile, path: Path) -> None:
    async with await anyio.open_file(path, "xb") as out:
        async for chunk in await store.open(file.blob.parts):
            await out.write(chunk)


def check_metadata(path: Path) -> None:
    """Raises EnvironmentInvalid unless a wheel needs nothing but plain packages.

    What stands here is followed by the resolver: an address or a path would be opened on this host.
    """
    try:
        text = _metadata(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise EnvironmentInvalid(path.name, f"not a wheel that can be read: {error}") from error
    for line in HeaderParser().parsestr(text).get_all("Requires-Dist", []):
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise EnvironmentInvalid(path.name, f"it needs {line[:200]!r}, which is no requirement") from error
        if requirement.url:
            raise EnvironmentInvalid(path.name, f"it needs {line[:200]!r}: packages come from the operator's index")


def _metadata(path: Path) -> str:
    name, version, *_ = parse_wheel_filename(path.name)
    with zipfile.ZipFile(path) as wheel:
        for member in wheel.namelist():
            folder, _, file = member.partition("/")
            if file == "METADATA" and _is_info(folder, str(name), str(version)):
                with wheel.open(member) as metadata:
                    data = metadata.read(MAX_METADATA_BYTES + 1)
                if len(data) > MAX_METADATA_BYTES:
                    raise ValueError("its METADATA is too long")
                return data.decode()
    raise ValueError("it has no METADATA of its name and version")


def _is_info(folder: str, name: str, version: str) -> bool:
    found, _, rest = folder.removesuffix(".dist-info").partition("-")
    return folder.endswith(".dist-info") and canonicalize_name(found) == name and bool(rest)
