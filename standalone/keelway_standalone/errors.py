"""Why `keelway up` could not go on: each says what a person can do about it."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 (reads as what happened)
    """Nothing was started, since starting would be wrong."""


class StartFailed(Exception):  # noqa: N818
    """A process could not come up: its name, the reason, and the last lines it wrote."""

    def __init__(self, name: str, reason: str, log_tail: list[str] | None = None) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason
        self.log_tail = log_tail or []


class PortTaken(StartFailed):
    """What could not come up found another process at its port."""
