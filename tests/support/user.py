"""Somebody who works with a stack through the SDK."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from keelway import Client
from keelway.contracts.models import ModelVersion
from keelway.contracts.operations import Operation
from keelway.contracts.services import DeploymentConfig, InferenceConfig, Service
from keelway.errors import OperationFailed, ScoringError, Unreachable, raise_unless_succeeded
from keelway.resources.services import ServiceHandle
from tests.support.scripts import ECHO
from tests.support.stack import Stack, until

WAIT_S = 60.0


class User:
    """One user with a folder for files. One small model and an environment without packages do for all services."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.client = Client(stack.url, stack.admin_token, retry_for_s=WAIT_S)
        self._folder = folder

    @cached_property
    def model(self) -> ModelVersion:
        """A model of a few bytes."""
        return self.register("weights", b"weights")

    @cached_property
    def environment(self) -> str:
        """An environment with nothing in it but what scoring itself needs."""
        return self.client.environments.register("plain", pip_requirements=[]).id

    def register(self, name: str, content: bytes) -> ModelVersion:
        """A new version with these bytes."""
        path = self._folder / f"{name}.bin"
        path.write_bytes(content)
        return self.client.models.register(name, path)

    def snapshot(self, script: str) -> str:
        """A snapshot with one entry script, `score.py`."""
        folder = self._folder / f"source-{abs(hash(script)):x}"
        folder.mkdir(exist_ok=True)
        (folder / "score.py").write_text(script)
        return self.client.snapshots.upload(folder).digest

    def start(
        self, name: str, script: str = ECHO, *, environment: str | None = None, replicas: int = 1
    ) -> ServiceHandle:
        """Begin a deployment. The script is not looked at before it runs in a replica."""
        inference = InferenceConfig(
            entry_script="score.py", snapshot=self.snapshot(script), environment=environment or self.environment
        )
        return self.client.services.deploy(name, [self.model], inference, DeploymentConfig(num_replicas=replicas))

    def deploy(self, name: str, script: str = ECHO, **options: Any) -> Service:
        """A service that answers."""
        return self.start(name, script, **options).wait(WAIT_S)

    def failure(self, handle: ServiceHandle) -> OperationFailed:
        """How a deployment that must fail did."""
        with pytest.raises(OperationFailed) as failed:
            handle.wait(WAIT_S)
        return failed.value

    def operation(self, handle: ServiceHandle) -> Operation:
        """The deployment's operation as it is now."""
        assert handle.operation_id is not None
        return self.client.operations.get(handle.operation_id)

    def until_step(self, handle: ServiceHandle, step: str, wait_s: float = WAIT_S) -> None:
        """Wait until the deployment has come to a step."""
        until(lambda: step in [s.name for s in self.operation(handle).steps], f"the step {step!r} begins", wait_s)

    def ended(self, handle: ServiceHandle) -> Operation:
        """The deployment's operation once it has ended, well or not."""
        assert handle.operation_id is not None
        return self.client.operations.wait(handle.operation_id, WAIT_S)

    def delete(self, name: str) -> None:
        """Take a service down, and wait until it is gone."""
        raise_unless_succeeded(self.client.operations.wait(self.client.services.delete(name).id, WAIT_S))

    def scores(self, service: Service | ServiceHandle) -> bool:
        """Whether the scoring address answers now."""
        try:
            return self.client.services.score(service.scoring_uri, {"data": [1, 2]}) == {"data": [1, 2]}
        except (ScoringError, Unreachable):
            return False
