"""`build`: an environment, or its image, is there before anything needs it."""

from __future__ import annotations

from typing import Any

from keelway.contracts.services import BuildSpec, EnvironmentSpec
from keelway_workers.environments import BuiltEnvironment
from keelway_workers.images.operation import build_image
from keelway_workers.node import Node
from keelway_workers.operation import Attempt
from keelway_workers.settings import WorkerSettings


def build(attempt: Attempt, node: Node, settings: WorkerSettings) -> dict[str, Any]:
    """Build what the spec names, or find it built."""
    spec = BuildSpec.model_validate(attempt.claim.spec)
    if spec.base is not None:
        image = build_image(attempt, node, settings, spec.environment, spec.base)
        return image.model_dump(mode="json") | {"image": image.identity}
    built = build_environment(attempt, node, spec.environment)
    return {"image": built.identity}


def build_environment(attempt: Attempt, node: Node, spec: EnvironmentSpec) -> BuiltEnvironment:
    """The environment, with uv's output in the operation's log."""
    if built := node.environments.find(spec):
        attempt.step("Environment is cached")
        return built
    if spec.wheels:
        attempt.step("Fetching private wheels")
        attempt.patiently(lambda: node.cache.fetch([wheel.sha256 for wheel in spec.wheels], check=attempt.check))
    attempt.step("Building the environment")
    return node.environments.ensure(
        spec, subtree=attempt.subtree, say=attempt.reporter.log, timeout_s=attempt.seconds_left
    )
