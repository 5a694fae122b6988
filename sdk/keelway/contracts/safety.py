"""Safety labels: what was found in the files of a version without ever loading them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field, StringConstraints

from keelway.contracts.base import Answer, Request, Sha256

INSPECTOR = "keelway-3 picklescan-1.0.5"
"""Changes whenever the same bytes may be judged otherwise: then everything that is asked for is looked at anew."""

MAX_FINDINGS = 200  # kept of a version
MAX_BLOB_FINDINGS = 50
MAX_DETAIL = 1000

INERT_KINDS = frozenset(
    {
        *("safetensors", "onnx", "xgboost-json", "xgboost-ubj", "lightgbm", "catboost-json"),
        *("numpy", "npz", "json", "text", "yaml", "image", "empty"),
    }
)
TEXT_SUFFIXES = frozenset({".csv", ".json", ".jsonl", ".lock", ".log", ".md", ".rst", ".toml", ".tsv", ".txt"})
YAML_SUFFIXES = frozenset({".yaml", ".yml"})
SUFFIXES = {  # what a name promises; bytes of another kind under it mislead
    ".safetensors": {"safetensors"},
    ".onnx": {"onnx"},
    ".json": {"json", "xgboost-json", "catboost-json"},
    ".ubj": {"xgboost-ubj"},
    ".npy": {"numpy"},
    ".npz": {"npz"},
    **{suffix: {"image"} for suffix in (".png", ".jpg", ".jpeg", ".gif")},
    **{suffix: {"text", "json", "lightgbm", "script"} for suffix in TEXT_SUFFIXES - {".json"} | YAML_SUFFIXES},
}
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=32)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]


class SafetyLabel(StrEnum):
    """`inert`: every file is of a kind that cannot run code when it is read. Everything else is `executable`."""

    INERT = "inert"
    EXECUTABLE = "executable"


class Severity(StrEnum):
    """How much a finding says: `danger` is what a model has no use for."""

    INFO = "info"
    WARNING = "warning"
    DANGER = "danger"


ORDER = [Severity.DANGER, Severity.WARNING, Severity.INFO]


class BlobFinding(Request):
    """Something in a file that is worth knowing. `code` is a stable id."""

    severity: Severity
    code: Code
    detail: Annotated[str, Field(max_length=MAX_DETAIL)]


class BlobInspection(Request):
    """What one blob was found to be."""

    sha256: Sha256
    kind: Kind
    findings: Annotated[list[BlobFinding], Field(max_length=MAX_BLOB_FINDINGS)]


class Inspections(Request):
    """What an attempt found so far: kept even if the attempt does not get further."""

    epoch: int
    inspector: Annotated[str, Field(max_length=64)]
    items: Annotated[list[BlobInspection], Field(max_length=200)]


class InspectBlob(Answer):
    """A blob that is to be looked at."""

    sha256: str
    size_bytes: int


class InspectSpec(Answer):
    """What an operation of kind `inspect` is to look at."""

    blobs: list[InspectBlob]


class Finding(Answer):
    """A finding and the file it is about."""

    path: str
    kind: str
    severity: Severity
    code: str
    detail: str


class Safety(Answer):
    """What is known of the files of a version. It informs: an `inert` version is not run with less isolation."""

    label: SafetyLabel
    inspector: str
    inspected_at: datetime
    kinds: dict[str, int] = Field(default_factory=dict, description="number of files by kind")
    findings_by_severity: dict[Severity, int] = Field(default_factory=dict)
    findings: list[Finding] = Field(default_factory=list, description="the gravest 200; lists leave them out")


@dataclass(frozen=True)
class Judgement:
    """What the files of a version are together."""

    label: SafetyLabel
    kinds: dict[str, int]
    findings: list[Finding]

    @property
    def by_severity(self) -> dict[Severity, int]:
        """Number of findings of each severity that occurs."""
        return dict(Counter(finding.severity for finding in self.findings))


def judged(files: Iterable[tuple[str, str, list[BlobFinding]]]) -> Judgement:
    """The label of a version made of (path, kind of its bytes, what was found in them).

    Only kinds on the allowlist, under names that do not make programs of them, are inert; one danger makes a version
    executable whatever its kinds are.
    """
    kinds: Counter[str] = Counter()
    findings: list[Finding] = []
    is_inert = True
    for path, blob_kind, found in files:
        kind = kind_of(path, blob_kind)
        kinds[kind] += 1
        here = [*found, *_misleading(path, blob_kind)]
        is_inert = is_inert and kind in INERT_KINDS and not any(one.severity is Severity.DANGER for one in here)
        findings += [Finding(path=path, kind=kind, **one.model_dump()) for one in here]
    findings.sort(key=lambda one: (ORDER.index(one.severity), one.path, one.code))
    label = SafetyLabel.INERT if is_inert and kinds else SafetyLabel.EXECUTABLE
    return Judgement(label, dict(sorted(kinds.items())), findings)


def kind_of(path: str, blob_kind: str) -> str:
    """The kind of a file: text is a program unless its name says that it is data."""
    suffix = PurePosixPath(path).suffix.lower()
    name = PurePosixPath(path).name.lower()
    if blob_kind == "text" and suffix not in TEXT_SUFFIXES | YAML_SUFFIXES and name not in {"license", "readme"}:
        return "script"
    return "yaml" if blob_kind == "text" and suffix in YAML_SUFFIXES else blob_kind


def _misleading(path: str, blob_kind: str) -> list[BlobFinding]:
    suffix = PurePosixPath(path).suffix.lower()
    promised = SUFFIXES.get(suffix)
    if promised is None or blob_kind in promised or blob_kind in {"empty", "not-inspectable"}:
        return []
    detail = f"named {suffix}, but its bytes are: {blob_kind}"
    return [BlobFinding(severity=Severity.WARNING, code="misleading-name", detail=detail)]
