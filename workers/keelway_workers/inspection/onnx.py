"""ONNX, by the wire format of protobuf: only what names other files, or operators that are not ONNX's own, is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from keelway_workers.inspection.verdict import DANGER, INFO, Unlike, Verdict

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Messages within messages, by field number (onnx/onnx.proto).
WITHIN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}
MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
NODE_DOMAIN = 7
OWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
MAX_DEPTH = 64
MAX_TEXT = 65536


def onnx(file: IO[bytes], size: int) -> Verdict:
    """A model whose messages all lie within one another up to the last byte. Raises Unlike."""
    verdict = Verdict("onnx")
    seen = _Walk(file, verdict).message("model", 0, size, depth=0)
    if not {1, 7} <= seen <= MODEL_FIELDS:
        raise Unlike
    return verdict


class _Walk:
    def __init__(self, file: IO[bytes], verdict: Verdict) -> None:
        self._file = file
        self._verdict = verdict

    def message(self, name: str, begin: int, end: int, *, depth: int) -> set[int]:
        """The field numbers of a message; what lies within is walked as well."""
        if depth > MAX_DEPTH:
            raise Unlike
        seen: set[int] = set()
        for number, wire, start, stop in self._fields(begin, end):
            seen.add(number)
            within = WITHIN.get(name, {}).get(number)
            if within and wire != BYTES:
                raise Unlike
            if within == "external":
                self._external(start, stop)
            elif within:
                self.message(within, start, stop, depth=depth + 1)
            elif name == "node" and number == NODE_DOMAIN and wire == BYTES:
                self._domain(self._text(start, stop))
            if name == "model" and number == 1 and wire != VARINT:
                raise Unlike
        return seen

    def _fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, wire type, first byte, byte behind the last) of each field."""
        at = begin
        while at < end:
            key, at = self._varint(at)
            number, wire = key >> 3, key & 7
            start = at
            if wire == VARINT:
                _, at = self._varint(at)
            elif wire == BYTES:
                length, start = self._varint(at)
                at = start + length
            elif wire in {FIXED32, FIXED64}:
                at += 4 if wire == FIXED32 else 8
            else:
                raise Unlike
            if number == 0 or at > end:
                raise Unlike
            yield number, wire, start, at

    def _varint(self, at: int) -> tuple[int, int]:
        self._file.seek(at)
        value = 0
        for index in range(10):
            byte = self._file.read(1)
            if not byte:
                break
            value |= (byte[0] & 0x7F) << (7 * index)
            if byte[0] < 0x80:
                return value, at + index + 1
        raise Unlike

    def _text(self, start: int, stop: int) -> str:
        self._file.seek(start)
        return self._file.read(min(stop - start, MAX_TEXT)).decode(errors="replace")

    def _external(self, begin: int, end: int) -> None:
        entry = {number: (start, stop) for number, wire, start, stop in self._fields(begin, end) if wire == BYTES}
        if not {1, 2} <= entry.keys() or self._text(*entry[1]) != "location":
            return
        location = self._text(*entry[2])
        parts = location.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            self._verdict.note(DANGER, "external-data-outside", f"tensor data at {location!r}, outside the model")
        else:
            self._verdict.note(INFO, "external-data", f"tensor data at {location!r}")

    def _domain(self, domain: str) -> None:
        if domain not in OWN_DOMAINS:
            self._verdict.note(INFO, "custom-operators", f"operators of domain {domain!r} need code beside the model")
