"""Manifests: which bytes, under which relative paths, make up a version or a snapshot."""

from __future__ import annotations

import hashlib
import tarfile
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Protocol

from pydantic import AfterValidator, FailFast, Field, StringConstraints

from keelway.contracts.base import Answer, Request, Sha256

MAX_FILES = 100_000
MAX_PATH = 1024


def checked_path(path: str) -> str:
    """The path itself when it is relative, normalised and free of traps; ValueError says what is wrong with it."""
    if path.startswith("/") or "\\" in path:
        raise ValueError("a path must be relative and use '/' between its parts")
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs"} for char in path):
        raise ValueError("a path may not hold control, format or surrogate characters")
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise ValueError("a path must be normalised: no empty, '.' or '..' part")
    return path


def _kept_as_it_is(path: str) -> str:
    # Apart from the rules of every path: what was registered with such names stays readable.
    if any(part.endswith((".", " ")) for part in path.split("/")):
        raise ValueError("no part of a path may end with a dot or a space: some file systems drop them")
    return path


FilePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_PATH),
    AfterValidator(checked_path),
    AfterValidator(_kept_as_it_is),
]


class ManifestFile(Request):
    """One file of a manifest, before its bytes are known to the server."""

    path: FilePath
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class FileEntry(Answer):
    """One file of a version or snapshot."""

    path: str
    size_bytes: int
    sha256: str


class MissingFile(FileEntry):
    """A file whose bytes the server still wants, and where to PUT them."""

    upload_url: str


class BlobUpload(Answer):
    """Bytes on their way in: those before `received_bytes` need not be sent again, nor any when all are stored."""

    sha256: str
    size_bytes: int
    received_bytes: int
    is_stored: bool


class PartLink(Answer):
    """Some bytes of a file, and where whoever has this address may GET them without a token, until it expires."""

    url: str
    offset: int
    size_bytes: int


class FileLinks(FileEntry):
    """Signed addresses of a file's parts in the object store, one behind the other.

    Not of all parts when there are many: ask again from where the last one ends. None when clients reach no store: the
    bytes come from the API then. They are not verified on the way: who has all of them compares their sha256.
    """

    expires_at: datetime | None = None
    parts: list[PartLink]


def checked_manifest(files: list[ManifestFile]) -> list[ManifestFile]:
    """The files when their paths can live side by side on any file system; ValueError names the clash."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for file in files:
        _add(seen, file.path)
        _add_folders(folders, file.path)
    for folded, path in seen.items():
        if folded in folders:
            raise ValueError(f"{path!r} is a file and also the folder {folders[folded]!r}")
    return files


def _add(known: dict[str, str], path: str) -> None:
    folded = _folded(path)
    if folded in known:
        raise ValueError(f"{known[folded]!r} and {path!r} are the same path on some file systems")
    known[folded] = path


def _add_folders(known: dict[str, str], path: str) -> None:
    """The folders of a path, from the innermost up to one that is known: then so are those that it lies in."""
    while path := path.rpartition("/")[0]:
        if known.get(_folded(path)) == path:
            return
        _add(known, path)
        if len(known) > MAX_FILES:  # each of them may take a kilobyte, and one path may have hundreds
            raise ValueError(f"at most {MAX_FILES} folders are taken")


def _folded(path: str) -> str:
    """The same for all paths that some file system takes for one another: by case, or by how letters are composed.

    Unicode's canonical caseless match (D145), by way of capitals: some letters share one and are told apart by folding.
    """
    if path.isascii():
        return path.lower()
    capitals = unicodedata.normalize("NFD", path).upper()
    return unicodedata.normalize("NFD", capitals.casefold())


Manifest = Annotated[
    list[ManifestFile], FailFast(), Field(min_length=1, max_length=MAX_FILES), AfterValidator(checked_manifest)
]


def one_top_level_entry(files: list[ManifestFile]) -> list[ManifestFile]:
    """The files when they share one first path segment: a model is one file or one folder. ValueError otherwise."""
    tops = sorted({file.path.split("/", 1)[0] for file in files})
    if len(tops) != 1:
        raise ValueError(f"a model is one file or one folder, but this manifest has {len(tops)}: {', '.join(tops[:5])}")
    return files


ModelManifest = Annotated[Manifest, AfterValidator(one_top_level_entry)]


class Listed(Protocol):
    """What a manifest says of a file."""

    @property
    def path(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def manifest_digest(files: Iterable[Listed]) -> str:
    """sha256 over the canonical manifest: a line `sha256 size path` for each file, in the order of the paths' bytes."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path.encode()):
        digest.update(f"{file.sha256} {file.size_bytes} {file.path}\n".encode())
    return digest.hexdigest()


def tar_header(path: str, size_bytes: int) -> bytes:
    """What stands before a file in every tar that we make: nothing in it but the path and the size."""
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = size_bytes, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def tar_padding(size_bytes: int) -> bytes:
    """What stands behind a file in a tar."""
    return bytes(-size_bytes % tarfile.BLOCKSIZE)
