"""Formats that hold numbers and no code. Each is read in full structure: a head that looks right is not enough."""

from __future__ import annotations

import json
import math
import re
from typing import IO, Any

from keelway_workers.inspection.verdict import INFO, Unlike, Verdict

MAX_HEADER = 100 * 2**20  # of safetensors, by its specification
MAX_JSON = 256 * 2**20
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
BEYOND_JSON = re.compile(rb"\bauto_map\b")


def safetensors(file: IO[bytes], size: int) -> Verdict:
    """Length, JSON header, tensors one behind the other up to the last byte. Raises Unlike."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise Unlike
    header = _json(file.read(length))
    if not isinstance(header, dict):
        raise Unlike
    header.pop("__metadata__", None)
    end = 0
    for begin, until, size_bytes in sorted(_span(tensor) for tensor in header.values()):
        if begin != end or until - begin != size_bytes:
            raise Unlike
        end = until
    if end != size - 8 - length:
        raise Unlike
    return Verdict("safetensors")


def _span(tensor: Any) -> tuple[int, int, int]:
    try:
        begin, end = tensor["data_offsets"]
        shape = tensor["shape"]
        if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
            raise Unlike
        return begin, end, math.prod(shape) * BITS[tensor["dtype"]] // 8
    except (KeyError, TypeError, ValueError):
        raise Unlike from None


def json_data(file: IO[bytes], size: int) -> Verdict:
    """JSON: a booster of XGBoost or CatBoost, or other data. Raises Unlike."""
    if size > MAX_JSON:
        raise Unlike
    raw = file.read(size)
    document = _json(raw)
    learner = document.get("learner") if isinstance(document, dict) else None
    if isinstance(learner, dict) and "gradient_booster" in learner:
        return Verdict("xgboost-json")
    if isinstance(document, dict) and {"oblivious_trees", "features_info"} <= document.keys():
        return Verdict("catboost-json")
    verdict = Verdict("json")
    if BEYOND_JSON.search(raw):
        verdict.note(
            INFO, "remote-code", "auto_map names code of its own, which transformers runs when told to trust it"
        )
    return verdict


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Unlike from None


def lightgbm(file: IO[bytes], size: int) -> Verdict:
    """LightGBM's text: `tree`, then keys with values, then trees. Raises Unlike."""
    head = file.read(min(size, 65536))
    if not (head.startswith(b"tree\nversion=v") and b"\nnum_class=" in head):
        raise Unlike
    return Verdict("lightgbm")


def ubjson(file: IO[bytes], size: int) -> Verdict:
    """XGBoost's binary JSON: an object from the first byte to the last, of a `learner`. Raises Unlike."""
    if size > MAX_JSON:
        raise Unlike
    reader = _Ubj(file)
    keys = reader.value(depth=0)
    if not isinstance(keys, set) or "learner" not in keys or file.read(1):
        raise Unlike
    return Verdict("xgboost-ubj")


class _Ubj:
    """Walks a UBJSON document (ubjson.org, draft 12) and keeps nothing but the keys of the outermost object."""

    WIDTHS = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8, b"C": 1}  # noqa: RUF012
    EMPTY = {b"Z", b"N", b"T", b"F"}  # noqa: RUF012

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def value(self, *, depth: int, marker: bytes = b"") -> set[str] | None:
        marker = marker or self._take(1)
        if marker in self.WIDTHS:
            self._skip(self.WIDTHS[marker])
        elif marker in {b"S", b"H"}:
            self._skip(self._length())
        elif marker in {b"[", b"{"} and depth < 64:
            return self._container(marker == b"{", depth + 1)
        elif marker not in self.EMPTY:
            raise Unlike
        return None

    def _container(self, is_object: bool, depth: int) -> set[str]:
        kind, count, first = b"", None, self._take(1)
        if first == b"$":
            kind, first = self._take(1), self._take(1)
        if first == b"#":
            count, first = self._length(), b""
        if kind and count is None:
            raise Unlike
        if not is_object and count is not None and kind in self.WIDTHS:
            self._skip(count * self.WIDTHS[kind])
            return set()
        return self._members(is_object, depth, kind, count, first)

    def _members(self, is_object: bool, depth: int, kind: bytes, count: int | None, first: bytes) -> set[str]:
        keys: set[str] = set()
        end = b"}" if is_object else b"]"
        done = 0
        while done != count if count is not None else (first := first or self._take(1)) != end:
            if is_object:
                key = self._take(self._length(first))
                keys.add(key.decode(errors="replace") if depth == 1 else "")
                first = b""
            self.value(depth=depth, marker=kind or first)
            first, done = b"", done + 1
        return keys

    def _length(self, marker: bytes = b"") -> int:
        width = self.WIDTHS.get(marker or self._take(1))
        if width is None:
            raise Unlike
        length = int.from_bytes(self._take(width), "big")
        if length > MAX_JSON:
            raise Unlike
        return length

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise Unlike
        return data

    def _skip(self, count: int) -> None:
        self._take(count)
