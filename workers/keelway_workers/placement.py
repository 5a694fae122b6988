"""An operation's replicas, as their nodes report them."""

from __future__ import annotations

from collections.abc import Iterator

from keelway.contracts.services import Replica, ReplicaList, ReplicaState
from keelway_workers.operation import Attempt

WAIT_S = 2.0  # for one answer: a cancelled operation is noticed after it at the latest
PAUSE_S = 0.05  # an API that answers without waiting must not be asked in a tight loop


def watch(attempt: Attempt, first: ReplicaList | None = None) -> Iterator[list[Replica]]:
    """The replicas now, and again whenever they changed. WorkStopped when the attempt is over."""
    latest = first or attempt.patiently(lambda: attempt.client.operations.replicas(attempt.id))
    while True:
        yield latest.items
        attempt.pause(PAUSE_S)
        seen = latest.seen
        latest = attempt.patiently(
            lambda seen=seen: attempt.client.operations.replicas(attempt.id, seen=seen, wait_s=WAIT_S)
        )


def is_gone(replica: Replica) -> bool:
    """Whether nothing of it runs any more."""
    return replica.state is ReplicaState.STOPPED


def count(replicas: int) -> str:
    """A number of replicas in words: '1 replica', '3 replicas'."""
    return f"{replicas} replica" + ("" if replicas == 1 else "s")
