"""Where replicas run. A target starts, looks at and stops replicas; when to do so is decided elsewhere, once."""

from __future__ import annotations

from collections.abc import Callable

from keelway_workers.node import Node
from keelway_workers.targets.base import Instance, Target
from keelway_workers.targets.docker import DockerTarget
from keelway_workers.targets.process import ProcessTarget

TARGETS: dict[str, Callable[[Node], Target]] = {"process": ProcessTarget, "docker": DockerTarget}

__all__ = ["TARGETS", "Instance", "Target"]
