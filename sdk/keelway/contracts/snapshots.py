"""Snapshots: an immutable copy of a source directory, named by the digest of its manifest."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from keelway.contracts.base import Answer, Request
from keelway.contracts.files import FileEntry, Manifest, MissingFile


class SnapshotState(StrEnum):
    """A snapshot is usable once every file is there."""

    UPLOADING = "uploading"
    READY = "ready"


class SnapshotCreate(Request):
    """The files of a source directory, paths relative to it."""

    files: Manifest


class Snapshot(Answer):
    """A source directory as it was; `digest` is its name."""

    digest: str
    state: SnapshotState
    files: list[FileEntry]
    size_bytes: int
    created_at: datetime
    created_by: str


class SnapshotUpload(Snapshot):
    """A snapshot that was just opened; when nothing is missing it is `ready` at once."""

    missing: list[MissingFile] = Field(default_factory=list)
