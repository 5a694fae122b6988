"""How work ends when it does not end well."""
# ruff: noqa: N818  (named after what happened, as the SDK's errors are)

from __future__ import annotations

import errno
from typing import Any


class WorkFailed(Exception):
    """Work that cannot succeed, for a reason its owner can act on: it becomes the operation's error."""

    def __init__(
        self, code: str, message: str, *, details: dict[str, Any] | None = None, log_tail: list[str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}
        self.log_tail = log_tail or []


class WorkStopped(Exception):
    """The work was told to stop: cancelled, past its deadline, or no longer ours."""


def disk_full(error: OSError) -> WorkFailed | None:
    """The failure to report when the node has no room left; None when the error is another one."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return None
    return WorkFailed("disk-full", f"the node has no disk space left: {error}")
