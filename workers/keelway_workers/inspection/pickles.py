"""Pickles: which names they import, by opcode, through picklescan. Nothing is ever unpickled."""

from __future__ import annotations

import pickletools
from typing import IO, cast

from picklescan import scanner
from picklescan.scanner import SafetyLevel

from keelway_workers.inspection.verdict import DANGER, INFO, WARNING, Verdict

MAX_BYTES = 256 * 2**20  # opcodes and their arguments are held in memory
MAX_NAMED = 40
PROTOCOLS = {bytes([0x80, number]) for number in range(2, 6)}
# Whose classes models are usually made of. Others are worth a look, no more.
FAMILIAR = frozenset(
    {
        *("__builtin__", "builtins", "_codecs", "collections", "copyreg", "copy_reg", "datetime", "decimal", "joblib"),
        *("catboost", "lightgbm", "numpy", "pandas", "scipy", "sklearn", "torch", "torchvision", "transformers"),
        *("keelway_runtime", "statsmodels", "xgboost"),
    }
)


def looks_like_pickle(head: bytes) -> bool:
    """Whether bytes begin as pickles of protocol 2 and later do."""
    return head[:2] in PROTOCOLS


def imports_anything(file: IO[bytes]) -> bool:
    """Whether bytes without a protocol's mark are a pickle that imports: opcodes up to a name that is looked up."""
    file.seek(0)
    try:
        for count, (opcode, _, _) in enumerate(pickletools.genops(file)):
            if opcode.name in {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}:
                return True
            if opcode.name == "STOP" or count > 100_000:
                return False
    except Exception:  # noqa: BLE001 - whatever a hostile argument makes of it: no opcodes, no pickle
        return False
    return False


def pickle(file: IO[bytes], size: int) -> Verdict:
    """What a pickle, or several one behind the other, import."""
    verdict = Verdict("pickle")
    if size > MAX_BYTES:
        verdict.note(WARNING, "not-read-whole", f"only the first {MAX_BYTES} of {size} bytes were looked at")
        file = cast("IO[bytes]", _Head(file, MAX_BYTES))
    file.seek(0)
    try:
        found = scanner.scan_pickle_bytes(file, "")
    except Exception as error:  # noqa: BLE001 - a parser's trouble with hostile bytes is a finding, not ours
        verdict.note(DANGER, "pickle-not-readable", f"its opcodes make no sense: {type(error).__name__}: {error}")
        return verdict
    _note_imports(verdict, found.globals)
    file.seek(0)
    if found.scan_err or not _ends(file):
        detail = "not opcodes up to its end: joblib puts arrays between them, else it is cut off or made to mislead"
        verdict.note(WARNING, "pickle-not-read-whole", detail)
    return verdict


def _note_imports(verdict: Verdict, found: list[scanner.Global]) -> None:
    by_level: dict[SafetyLevel, list[str]] = {}
    for one in found:
        by_level.setdefault(one.safety, []).append(f"{one.module}.{one.name}")
    if dangerous := sorted(by_level.get(SafetyLevel.Dangerous, [])):
        verdict.note(DANGER, "dangerous-import", _named(dangerous))
    others = {one for level, names in by_level.items() if level is not SafetyLevel.Dangerous for one in names}
    innocuous = set(by_level.get(SafetyLevel.Innocuous, []))
    strange = {name for name in others - innocuous if name.partition(".")[0] not in FAMILIAR}
    if strange:
        verdict.note(WARNING, "unfamiliar-import", _named(sorted(strange)))
    if others - strange:
        verdict.note(INFO, "imports", _named(sorted(others - strange)))


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(name[:100] for name in names[:MAX_NAMED]) + more


def _ends(file: IO[bytes]) -> bool:
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(file))
    except Exception:  # noqa: BLE001 - as above
        return False


class _Head:
    """The first bytes of a file, as if there were no more."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def _room(self) -> int:
        return max(self._size - self._file.tell(), 0)

    def read(self, count: int = -1) -> bytes:
        room = self._room()
        return self._file.read(room if count < 0 else min(count, room))

    def readline(self, count: int = -1) -> bytes:
        room = self._room()
        return self._file.readline(room if count < 0 else min(count, room))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
