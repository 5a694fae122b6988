"""What each kind of operation means to the feature that owns it.

Features register themselves; this file knows none of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Role
from keelway_api.operations.tables import OperationTable


@dataclass(frozen=True)
class Kind:
    """`expand` makes the spec a worker gets of the one that is stored; `progressed` and `ended` follow its states.

    All three run in the transaction of the claim or report that causes them. `role`: who may start one, and so may
    cancel it; `is_cancellable`: what cannot be undone halfway is not.
    """

    role: Role
    expand: Callable[[AsyncSession, OperationTable], Awaitable[dict[str, Any]]]
    progressed: Callable[[AsyncSession, OperationTable], Awaitable[None]] | None = None
    ended: Callable[[AsyncSession, OperationTable], Awaitable[None]] | None = None
    is_cancellable: bool = True


KINDS: dict[str, Kind] = {}


def register(name: str, kind: Kind) -> None:
    """Make a kind known."""
    KINDS[name] = kind
