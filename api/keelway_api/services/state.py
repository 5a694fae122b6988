"""What a service is, told from what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keelway.contracts.services import ReplicaState, ServiceState


@dataclass(frozen=True)
class Seen:
    """All that decides a service's state. `replicas` are (state, reason) of those that should take traffic."""

    is_deleting: bool
    step: str | None  # of the deployment that is under way
    failure: str  # of the last deployment, or of the deletion
    has_traffic: bool
    wanted: int
    replicas: Sequence[tuple[ReplicaState, str]]
    away_nodes: Sequence[str] = ()


def judge(seen: Seen) -> tuple[ServiceState, str]:
    """State and reason: never healthy while no replica is known to answer."""
    if seen.is_deleting:
        why = f"its deletion failed: {seen.failure}; delete it again" if seen.failure else "stopping its replicas"
        return ServiceState.DELETING, why
    if not seen.has_traffic:
        if seen.step is not None:
            return ServiceState.TRANSITIONING, seen.step
        return ServiceState.FAILED, seen.failure or "it was never deployed"
    if seen.away_nodes:
        return ServiceState.UNHEALTHY, f"node {', '.join(seen.away_nodes)} has not been heard of"
    return _serving(seen)


def _serving(seen: Seen) -> tuple[ServiceState, str]:
    ready = sum(state == ReplicaState.READY for state, _ in seen.replicas)
    last = f"its last update failed: {seen.failure}" if seen.failure else ""
    if ready == 0:
        return ServiceState.UNHEALTHY, _why(seen.replicas)
    if ready < seen.wanted:
        return ServiceState.HEALTHY, f"{ready} of {seen.wanted} replicas ready: {_why(seen.replicas)}"
    return ServiceState.HEALTHY, seen.step or last


def _why(replicas: Sequence[tuple[ReplicaState, str]]) -> str:
    reasons = [reason or f"a replica is {state}" for state, reason in replicas if state != ReplicaState.READY]
    return reasons[0] if reasons else "it has no replica"
