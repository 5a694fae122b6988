"""What must hold once every fault has healed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from keelway.contracts.services import ServiceState
from tests.support.mistakes import mistakes
from tests.support.running import commands, environ, replicas
from tests.support.stack import Stack, until
from tests.support.user import User

HEALED_S = 30.0


def in_order(stack: Stack, user: User) -> None:
    """Every child and the node work, every operation has ended, exactly what is wanted runs, and nobody erred."""
    until(lambda: {child["state"] for child in stack.status["children"]} == {"running"}, "all children run", HEALED_S)
    until(lambda: [node.state for node in user.client.nodes.list()] == ["ready"], "the node is ready", HEALED_S)
    until(lambda: not _open_operations(user), f"all operations end, but {_open_operations(user)}", HEALED_S)
    until(lambda: _running(stack) == _wanted(user), "what runs is what is wanted", HEALED_S)
    until(lambda: len(_folders(stack)) == len(replicas(stack)), "nothing is left of other replicas", HEALED_S)
    assert (left := commands(stack)) == [], left
    assert (made := mistakes(stack)) == [], "\n".join(made)


def _open_operations(user: User) -> list[str]:
    return [f"{o.kind} of {o.subject}" for o in user.client.operations.list() if not o.state.is_terminal]


def _folders(stack: Stack) -> list[Path]:
    return list((stack.layout.node / "replicas").iterdir())


def _running(stack: Stack) -> Counter[str]:
    return Counter(environ(process).get("SERVICE_NAME", "") for process in replicas(stack))


def _wanted(user: User) -> Counter[str]:
    services = user.client.services.list()
    serving = (s for s in services if s.state in {ServiceState.HEALTHY, ServiceState.UNHEALTHY})
    return Counter({service.name: service.deployment_config.num_replicas for service in serving})
