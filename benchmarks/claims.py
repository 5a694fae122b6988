"""From POST to claim: how long an operation waits on an idle system."""

from __future__ import annotations

import time

from benchmarks.table import Row, milliseconds
from benchmarks.world import World

OPERATIONS = 40
PAUSE_S = 0.25  # an idle system: one operation at a time


def measure(world: World) -> list[Row]:
    """Builds of an environment that is built already: claimed, looked up, done."""
    with world.client() as client:
        environment = client.environments.register("bench", pip_requirements=["six"])
        client.operations.wait(client.environments.build("bench", environment.version).id)
        claims, ends = [], []
        for _ in range(OPERATIONS):
            time.sleep(PAUSE_S)
            made = client.environments.build("bench", environment.version)
            ended = client.operations.wait(made.id)
            assert ended.started_at
            assert ended.ended_at
            # Both times are Postgres' own, so that no clock is compared with another.
            claims.append((ended.started_at - ended.created_at).total_seconds())
            ends.append((ended.ended_at - ended.created_at).total_seconds())
    return [
        Row("POST to claim", milliseconds(claims), "p95 100 ms"),
        Row("POST to end of a build that finds its environment built", milliseconds(ends)),
    ]
