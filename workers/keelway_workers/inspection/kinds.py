"""What bytes are, told from the bytes: names promise nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, cast

from keelway_workers.inspection import containers, inert, onnx, pickles
from keelway_workers.inspection.verdict import INFO, WARNING, Unlike, Verdict, not_inspectable

HEAD = 4096
TAIL = 65536 + 22
MAX_TEXT = 64 * 2**20
NATIVE = {b"\x7fELF": "ELF", b"MZ": "Windows", b"\xcf\xfa\xed\xfe": "Mach-O", b"\xca\xfe\xba\xbe": "Java or Mach-O"}
IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
END_OF_ZIP = b"PK\x05\x06"
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def inspect(file: IO[bytes], size: int, depth: int = 0) -> Verdict:
    """The verdict on some bytes, whatever they are. Never raises for what they contain."""
    try:
        return _inspect(file, size, depth)
    except (RecursionError, MemoryError) as error:
        return not_inspectable(f"too much to look at: {type(error).__name__}")


def _inspect(file: IO[bytes], size: int, depth: int) -> Verdict:
    if size == 0:
        return Verdict("empty")
    file.seek(0)
    head = file.read(HEAD)
    verdict = _first_that_fits(file, size, head, depth)
    if verdict.kind not in {"torch", "keras", "npz", "npz-objects", "archive", "compressed"} and _ends_as_zip(
        file, size
    ):
        verdict.note(WARNING, "two-formats", f"begins as {verdict.kind} and ends as a zip")
        verdict.kind = "unknown"
    return verdict


def _first_that_fits(file: IO[bytes], size: int, head: bytes, depth: int) -> Verdict:
    ways: list[Callable[[], Verdict]] = [
        lambda: _told_by_mark(file, size, head, depth),
        lambda: inert.safetensors(file, size),
        lambda: inert.lightgbm(file, size),
        lambda: _json(file, size, head),
        lambda: _text(file, size),
        lambda: inert.ubjson(file, size),
        lambda: onnx.onnx(file, size),
        lambda: _tar(file, head, depth),
        lambda: containers.compressed(file, head, inspect, depth),
    ]
    for way in ways:
        file.seek(0)
        try:
            return way()
        except Unlike:
            continue
    return _unknown(file, size)


def _told_by_mark(file: IO[bytes], size: int, head: bytes, depth: int) -> Verdict:
    if pickles.looks_like_pickle(head):
        return pickles.pickle(file, size)
    if head.startswith(b"PK"):
        return containers.zip_archive(file, inspect, depth)
    if head.startswith(b"\x93NUMPY"):
        return _array(file, size)
    if head.startswith(b"\x89HDF"):
        return containers.hdf5(file, size)
    if head.startswith(IMAGES):
        return Verdict("image")
    for mark, name in NATIVE.items():
        if head.startswith(mark) and CONTROL.search(head):
            verdict = Verdict("program")
            verdict.note(WARNING, "native-code", f"a program or library: {name}")
            return verdict
    raise Unlike


def _array(file: IO[bytes], size: int) -> Verdict:
    verdict = containers.numpy_array(file, size)
    if verdict.kind == "numpy-objects":
        start = file.tell()
        verdict.take(pickles.pickle(cast("IO[bytes]", _From(file, start)), size - start), inside="array")
    return verdict


def _tar(file: IO[bytes], head: bytes, depth: int) -> Verdict:
    if head[257:262] != b"ustar":
        raise Unlike
    return containers.tar_archive(file, inspect, depth)


def _json(file: IO[bytes], size: int, head: bytes) -> Verdict:
    if head.lstrip()[:1] not in {b"{", b"["}:
        raise Unlike
    return inert.json_data(file, size)


def _text(file: IO[bytes], size: int) -> Verdict:
    """Text: a program when it says so itself; a pickle of protocol 0 is text too. Raises Unlike."""
    raw = file.read(min(size, MAX_TEXT))
    if CONTROL.search(raw):
        raise Unlike
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(raw) - 4 or size <= MAX_TEXT:
            raise Unlike from None
    if pickles.imports_anything(file):
        return pickles.pickle(file, size)
    verdict = Verdict("script" if raw.startswith(b"#!") else "text")
    if b"!!python/" in raw or b"tag:yaml.org,2002:python/" in raw:
        verdict.note(WARNING, "yaml-python-tag", "YAML that an unsafe loader would make Python objects of")
    return verdict


def _unknown(file: IO[bytes], size: int) -> Verdict:
    if pickles.imports_anything(file):
        return pickles.pickle(file, size)
    verdict = Verdict("unknown")
    verdict.note(INFO, "unknown-kind", "not of a kind that is known here")
    return verdict


def _ends_as_zip(file: IO[bytes], size: int) -> bool:
    file.seek(max(size - TAIL, 0))
    tail = file.read(TAIL)
    at = tail.rfind(END_OF_ZIP)
    # The mark may occur among numbers by chance; a real end says how long its comment is, up to the last byte.
    return at >= 0 and len(tail) - at >= 22 and int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail) - at - 22


class _From:
    """A file from some byte on."""

    def __init__(self, file: IO[bytes], start: int) -> None:
        self._file = file
        self._start = start
        self.read = file.read
        self.readline = file.readline

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset + self._start if whence == 0 else offset, whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start
