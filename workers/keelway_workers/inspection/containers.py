"""Files that hold files: archives, compressed files, models of torch and Keras, arrays of numpy."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from picklescan.relaxed_zipfile import RelaxedZipFile

from keelway_workers.inspection.verdict import DANGER, INFO, WARNING, Unlike, Verdict

Inspect = Callable[[IO[bytes], int, int], Verdict]
"""(file, its size, how many containers it lies in)."""

MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 512 * 2**20
MAX_DEPTH = 4
CHUNK = 2**20
LAMBDA = re.compile(rb'"class_name":\s*"Lambda"')
COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x5d\x00\x00": lzma.LZMAFile,
}
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
CLOSED = {
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\x28\xb5\x2f\xfd": "Zstandard",
}


def numpy_array(file: IO[bytes], size: int) -> Verdict:
    """An array, by its header; one of objects is a pickle behind it. Raises Unlike."""
    if file.read(6) != b"\x93NUMPY":
        raise Unlike
    major = file.read(2)[:1]
    width = 2 if major == b"\x01" else 4
    length = int.from_bytes(file.read(width), "little")
    header = file.read(min(length, 2**20))
    if len(header) != length or not header.strip().startswith(b"{"):
        raise Unlike
    if b"O" not in _descr(header):
        return Verdict("numpy")
    verdict = Verdict("numpy-objects")
    verdict.note(INFO, "object-array", "an array of objects is a pickle: reading it runs what that says")
    return verdict


def _descr(header: bytes) -> bytes:
    """What stands for the type of the elements; everything when that cannot be told."""
    found = re.search(rb"'descr'\s*:\s*(.*?),\s*'(?:fortran_order|shape)'", header, re.DOTALL)
    return found[1] if found else b"O"


def compressed(file: IO[bytes], head: bytes, inspect: Inspect, depth: int) -> Verdict:
    """What lies in a compressed file, as far as it is read. Raises Unlike."""
    verdict = Verdict("compressed")
    name = next((name for mark, name in CLOSED.items() if head.startswith(mark)), None)
    if name:
        verdict.note(WARNING, "not-opened", f"{name} is not opened")
        return verdict
    stream = next((open_(file) for mark, open_ in COMPRESSED.items() if head.startswith(mark)), None)
    if stream is None and not head.startswith(ZLIB):
        raise Unlike
    file.seek(0)
    data = _unpacked(verdict, _inflated(file) if stream is None else _chunks(stream))
    if data:
        _inside(verdict, io.BytesIO(data), len(data), "unpacked", inspect, depth)
    elif head.startswith(ZLIB):
        raise Unlike
    return verdict


def _unpacked(verdict: Verdict, chunks: Iterator[bytes]) -> bytes:
    data = bytearray()
    try:
        for chunk in chunks:
            data += chunk
            if len(data) > MAX_MEMBER_BYTES:
                detail = f"only the first {MAX_MEMBER_BYTES} unpacked bytes were looked at"
                verdict.note(WARNING, "not-read-whole", detail)
                break
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        verdict.note(WARNING, "not-read-whole", f"it cannot be unpacked to its end: {error}")
    return bytes(data[:MAX_MEMBER_BYTES])


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    while not inflate.eof and (raw := inflate.unconsumed_tail or file.read(CHUNK)):
        yield inflate.decompress(raw, CHUNK)


def zip_archive(file: IO[bytes], inspect: Inspect, depth: int) -> Verdict:
    """A zip: of torch, of Keras, of numpy, or any other. Raises Unlike."""
    try:
        archive = RelaxedZipFile(file)
        members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        raise Unlike from None
    names = {member.filename for member in members}
    verdict = Verdict(_zip_kind(names))
    kinds: set[str] = set()
    budget = MAX_TOTAL_BYTES
    if len(names) != len(members):
        verdict.note(WARNING, "twin-members", "two members of one name: readers differ in which they take")
    for member in members[:MAX_MEMBERS]:
        if _leads_outside(member.filename) or stat.S_ISLNK(member.external_attr >> 16):
            verdict.note(DANGER, "member-outside", f"{member.filename}: a link, or a path that leads outside")
        if member.is_dir():
            continue
        data = _member(verdict, archive, member, min(MAX_MEMBER_BYTES, budget))
        budget -= len(data)
        kinds.add(_inside(verdict, io.BytesIO(data), len(data), member.filename, inspect, depth))
        if verdict.kind == "keras" and member.filename == "config.json":
            _keras(verdict, data)
    if len(members) > MAX_MEMBERS or budget <= 0:
        verdict.note(WARNING, "not-read-whole", f"the first {MAX_MEMBERS} members or {MAX_TOTAL_BYTES} bytes were")
    if verdict.kind == "npz" and (kinds != {"numpy"} or verdict.findings):
        verdict.kind = "npz-objects"
    return verdict


def _leads_outside(path: str) -> bool:
    parts = path.replace("\\", "/").split("/")
    return ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", path) is not None


def _zip_kind(names: set[str]) -> str:
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "torch"
    if {"config.json", "metadata.json"} <= names:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "archive"


def _member(verdict: Verdict, archive: RelaxedZipFile, member: zipfile.ZipInfo, room: int) -> bytes:
    try:
        with archive.open(member) as stream:
            data = stream.read(room)
            if stream.read(1):
                verdict.note(WARNING, "not-read-whole", f"{member.filename}: only its first {room} bytes were")
            return data
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        verdict.note(WARNING, "member-not-readable", f"{member.filename}: {error}")
    except lzma.LZMAError as error:
        verdict.note(WARNING, "member-not-readable", f"{member.filename}: {error}")
    return b""


def _inside(verdict: Verdict, file: IO[bytes], size: int, name: str, inspect: Inspect, depth: int) -> str:
    if depth >= MAX_DEPTH:
        verdict.note(WARNING, "too-deep", f"{name}: containers within containers, not opened any more")
        return "unknown"
    found = inspect(file, size, depth + 1)
    verdict.take(found, inside=name)
    return found.kind


def _keras(verdict: Verdict, config: bytes) -> None:
    try:
        document = json.loads(config)
    except (ValueError, RecursionError):
        verdict.note(WARNING, "member-not-readable", "config.json is no JSON")
        return
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += node.values()
            _keras_layer(verdict, node)
        elif isinstance(node, list):
            waiting += node


def _keras_layer(verdict: Verdict, node: dict[str, Any]) -> None:
    if node.get("class_name") in {"Lambda", "__lambda__"}:
        verdict.note(DANGER, "keras-lambda", "a Lambda layer is Python code")
    module = node.get("module")
    if "class_name" in node and isinstance(module, str) and module.partition(".")[0] not in {"keras", "builtins"}:
        verdict.note(DANGER, "keras-foreign-module", f"loading imports {module}.{node['class_name']}")


def hdf5(file: IO[bytes], size: int) -> Verdict:
    """HDF5, as Keras wrote it before: its configuration lies in it as plain text. Raises Unlike."""
    if file.read(8) != b"\x89HDF\r\n\x1a\n":
        raise Unlike
    verdict = Verdict("hdf5")
    read, tail = 8, b""
    while read < min(size, MAX_TOTAL_BYTES) and (chunk := file.read(CHUNK)):
        if LAMBDA.search(tail + chunk):
            verdict.note(DANGER, "keras-lambda", "a Lambda layer is Python code")
            return verdict
        read, tail = read + len(chunk), chunk[-64:]
    if read < size:
        verdict.note(WARNING, "not-read-whole", f"only the first {MAX_TOTAL_BYTES} bytes were looked at")
    return verdict


def tar_archive(file: IO[bytes], inspect: Inspect, depth: int) -> Verdict:
    """A tar; its members are read where they lie, nothing is unpacked. Raises Unlike."""
    verdict, budget = Verdict("archive"), MAX_TOTAL_BYTES
    try:
        archive = tarfile.TarFile(fileobj=file)  # reads the first header
    except (tarfile.TarError, OSError, ValueError, EOFError):
        raise Unlike from None
    try:
        for count, member in enumerate(archive):
            if count >= MAX_MEMBERS or budget <= 0:
                verdict.note(WARNING, "not-read-whole", f"the first {count} members were")
                break
            budget -= _tar_member(verdict, archive, member, min(MAX_MEMBER_BYTES, budget), inspect, depth)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        # Others unpack what stands before it: it is still a tar, with all that was found so far.
        verdict.note(WARNING, "not-read-whole", f"it breaks off: {error}")
    return verdict


def _tar_member(
    verdict: Verdict, archive: tarfile.TarFile, member: tarfile.TarInfo, room: int, inspect: Inspect, depth: int
) -> int:
    if member.issym() or member.islnk() or member.isdev() or _leads_outside(member.name):
        verdict.note(DANGER, "member-outside", f"{member.name}: a link, a device, or a path that leads outside")
    stream = archive.extractfile(member) if member.isreg() else None
    if stream is None:
        return 512
    data = stream.read(room)
    if member.size > room:
        verdict.note(WARNING, "not-read-whole", f"{member.name}: only its first {room} bytes were")
    _inside(verdict, io.BytesIO(data), len(data), member.name, inspect, depth)
    return len(data) + 512
