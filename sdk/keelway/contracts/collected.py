"""Collected model data: rows that scripts handed over while they scored, in files.

A file is called as the scoring runtime names it, after the time of its first row, whose day decides where it is kept.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from keelway.contracts.base import MODEL_NAME, Answer

MAX_COLLECTED_BYTES = 16 * 2**20
IDENTIFIER = r"^[a-zA-Z0-9][a-zA-Z0-9\-._]{0,63}$"
FILE_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9\-._]{0,63}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.csv$"
_PARTS = tuple(re.compile(pattern) for pattern in (MODEL_NAME, IDENTIFIER, IDENTIFIER, FILE_NAME))


def day_of(file: str) -> date:
    """The day (UTC) of a file's first row, which its name tells. ValueError when there is no such day or time."""
    return datetime.strptime(file.split("-")[-2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).date()


def is_collected_file(parts: tuple[str, ...]) -> bool:
    """Whether these are model, version, designation and file name, as a path in a replica's spool has them."""
    if len(parts) != len(_PARTS):
        return False
    return all(pattern.fullmatch(part) for pattern, part in zip(_PARTS, parts, strict=True))


def _with_a_day(file: str) -> str:
    day_of(file)
    return file


Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
FileName = Annotated[str, StringConstraints(pattern=FILE_NAME), AfterValidator(_with_a_day)]


class CollectedFile(Answer):
    """One file of rows, as CSV with a header."""

    path: str = Field(description="model/version/designation/yyyy/mm/dd/file, by the day of its first row (UTC)")
    size_bytes: int
    sha256: str
    designation: str
    day: date
    created_at: datetime


class CollectedDeletion(Answer):
    """What a request to delete collected data did."""

    deleted_files: int
    deleted_bytes: int
    is_complete: bool = Field(description="false when there is more to delete: call again")
