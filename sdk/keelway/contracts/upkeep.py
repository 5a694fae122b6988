"""Upkeep: what garbage collection and scrubbing found and did."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from keelway.contracts.base import Answer


class GcReport(Answer):
    """One round of garbage collection: what nothing refers to is condemned, and deleted after the grace period."""

    is_dry_run: bool
    grace_s: float
    abandoned_uploads: int = Field(description="uploads and unfinished versions that nobody went on with")
    unreferenced_blobs: int = Field(description="blobs that nothing refers to, before this round")
    unreferenced_bytes: int
    deleted_blobs: int = Field(description="in a dry run those that would be deleted")
    deleted_bytes: int
    is_complete: bool = Field(description="false when there is more to delete: call again")


class Damage(StrEnum):
    """What became of stored bytes."""

    MISSING = "missing"
    TRUNCATED = "truncated"
    CHANGED = "changed"
    UNREADABLE = "unreadable"

    @property
    def text(self) -> str:
        """For a sentence that begins with the file."""
        return {
            Damage.MISSING: "is not in the store",
            Damage.TRUNCATED: "is cut short in the store",
            Damage.CHANGED: "has other bytes in the store",
            Damage.UNREADABLE: "cannot be read from the store",
        }[self]


class DamagedBlob(Answer):
    """Stored bytes that are not what they were."""

    sha256: str
    size_bytes: int
    damage: Damage
    used_by: list[str] = Field(description="every file of a model version, a run's output or a snapshot that has them")


class ScrubReport(Answer):
    """One round of scrubbing: blobs read again and compared with their sha256."""

    since: datetime = Field(description="pass it on to go on with the same scrub")
    checked_blobs: int
    checked_bytes: int
    damaged: list[DamagedBlob]
    remaining_blobs: int = Field(description="not yet read since `since`: call again")
