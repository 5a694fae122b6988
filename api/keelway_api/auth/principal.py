"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from keelway.contracts.access import Role

# Each role of people includes those before it; worker and gateway stand beside them and include nothing.
LADDER = (Role.READER, Role.CONTRIBUTOR, Role.DEPLOYER, Role.ADMIN)


@dataclass(frozen=True)
class Principal:
    """The holder of a token. `grants` are (role, workspace id), with None for every workspace."""

    token_id: str
    name: str
    grants: tuple[tuple[Role, UUID | None], ...]

    def may(self, role: Role, workspace_id: UUID | None) -> bool:
        """True when a grant covers `role` there; `None` asks for a grant that holds everywhere."""
        return any(_covers(held, role) and where in {None, workspace_id} for held, where in self.grants)

    def sees(self, workspace_id: UUID) -> bool:
        """True when the workspace exists for this principal at all."""
        return any(held in LADDER and where in {None, workspace_id} for held, where in self.grants)

    @property
    def visible_workspaces(self) -> tuple[UUID, ...] | None:
        """Ids of the workspaces it may read; None for all."""
        ids = [where for held, where in self.grants if held in LADDER]
        return None if None in ids else tuple(where for where in ids if where is not None)


NOBODY = Principal("", "keelway", ())  # the system itself, at work on what others asked for


def _covers(held: Role, wanted: Role) -> bool:
    if held in LADDER and wanted in LADDER:
        return LADDER.index(held) >= LADDER.index(wanted)
    return held == wanted
