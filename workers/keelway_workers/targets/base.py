"""What every target can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keelway.contracts.services import ReplicaSpec
from keelway_workers.subtree import Subtree


@dataclass(frozen=True)
class Instance:
    """A replica that was started: where it answers, whether it still runs, how it ended (None: not known)."""

    name: str
    pid: int
    url: str
    is_alive: bool
    exit_code: int | None = None
    ending: str | None = None  # how it ended, where the target knows more than its exit code says


class Target(Protocol):
    """Starts, looks at and stops replicas. Each method may be called twice and then does nothing new."""

    def is_available(self) -> bool:
        """Whether this node can run replicas of this kind."""
        ...

    def tidy(self) -> None:
        """Before anything else: end what an earlier supervisor started and did not live to write down."""
        ...

    def sweep(self) -> None:
        """Now and then: end what carries the mark of this node's replicas and is none of those that run."""
        ...

    def prepare(self, spec: ReplicaSpec, subtree: Subtree) -> None:
        """Have everything on this node that a start needs. WorkStopped when the subtree was killed meanwhile."""
        ...

    def start(self, spec: ReplicaSpec, subtree: Subtree) -> Instance:
        """Run the replica; the one that runs already when there is one. WorkStopped when the subtree was killed."""
        ...

    def inspect(self, name: str) -> Instance | None:
        """The replica as it is now; None when none was started."""
        ...

    def logs(self, name: str, tail: int) -> list[str]:
        """The last lines it printed."""
        ...

    def close(self) -> None:
        """Let go of connections; replicas go on running."""
        ...

    def stop(self, name: str, grace_s: float) -> None:
        """End it: asked first, then killed with everything it started."""
        ...
