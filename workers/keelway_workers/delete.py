"""`delete`: wait until nothing of a service runs any more."""

from __future__ import annotations

from typing import Any

from keelway.contracts.services import DeleteSpec
from keelway_workers.operation import Attempt
from keelway_workers.placement import count, is_gone, watch


def delete(attempt: Attempt) -> dict[str, Any]:
    """Wait until the replicas named in the spec are gone; their nodes stop them."""
    spec = DeleteSpec.model_validate(attempt.claim.spec)
    attempt.step(f"Stopping {count(len(spec.replicas))}")
    for replicas in watch(attempt):
        if not any(replica.name in spec.replicas and not is_gone(replica) for replica in replicas):
            break
    return {}
