"""A control plane in memory: what workers and supervisors hear and say, without HTTP."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from keelway.contracts.files import FileEntry
from keelway.contracts.operations import Claim, Heartbeat, Operation, OperationState, Report
from keelway.contracts.services import (
    DeploySpec,
    EnvironmentSpec,
    ModelFiles,
    NodeDesired,
    NodeObserved,
    NodeRegister,
    PlaceReplicas,
    Replica,
    ReplicaList,
    ReplicaLogs,
    ReplicaSpec,
)
from keelway.errors import NotFound, OperationNotClaimable, StaleAttempt, Unreachable

PROBLEM: dict[str, Any] = {"status": 409, "type": "problem", "title": "No", "detail": "no"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Plane:
    """Acts as API and as `keelway.client.Client`. `is_away` makes every call fail like a refused connection."""

    def __init__(self) -> None:
        self.is_away = False
        self.blobs_by_digest: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.desired = NodeDesired(generation=1, replicas=[])
        self.observed: NodeObserved | None = None
        self.registered: list[NodeRegister] = []
        self.log_text: dict[str, str] = {}
        self.log_offsets: dict[str, list[int]] = {}
        self.reports: list[Report] = []
        self.heartbeats = 0
        self.activated = threading.Event()
        self.operation_state = OperationState.QUEUED
        self.epoch = 0
        self.deploy_spec: DeploySpec | None = None
        self.spec: dict[str, Any] = {}
        self.kind = "deploy"
        self.deadline_s = 120.0
        self.heartbeat_s = 0.2
        self.routes: tuple[str, dict] | None = None
        self.changed = threading.Condition()
        self.operations = SimpleNamespace(
            claim=self._claim,
            heartbeat=self._heartbeat,
            report=self._report,
            place=self._place,
            replicas=self._replicas,
            activate=self._activate,
        )
        self.nodes = SimpleNamespace(
            register=self._register, desired=self._get_desired, observed=self._observe, logs=self._logs
        )
        self.blobs = SimpleNamespace(download=self._download)
        self.gateway = SimpleNamespace(routes=self._routes)

    def __enter__(self) -> Plane:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None: ...

    def put(self, path: str, content: bytes) -> FileEntry:
        self.blobs_by_digest[digest(content)] = content
        return FileEntry(path=path, size_bytes=len(content), sha256=digest(content))

    def want(self, *replicas: ReplicaSpec) -> None:
        with self.changed:
            self.desired = NodeDesired(generation=self.desired.generation + 1, replicas=list(replicas))
            self.changed.notify_all()

    def seen(self, name: str) -> Replica | None:
        for replica in self.observed.replicas if self.observed else []:
            if replica.name == name:
                return Replica(
                    name=name,
                    revision="r1",
                    node="here",
                    state=replica.state,
                    reason=replica.reason,
                    url=replica.url,
                    restarts=replica.restarts,
                    exit_code=replica.exit_code,
                    log_tail=replica.log_tail,
                    started_at=replica.started_at,
                )
        return None

    def wait_for(self, name: str, state: str, *, timeout_s: float = 20) -> Replica:
        ends_at = time.monotonic() + timeout_s
        while time.monotonic() < ends_at:
            replica = self.seen(name)
            if replica and replica.state == state:
                return replica
            time.sleep(0.02)
        raise AssertionError(f"{name} is {self.seen(name)}, not {state}")

    @property
    def steps(self) -> list[str]:
        return [report.step for report in self.reports if report.step]

    @property
    def log(self) -> str:
        return "".join(report.log or "" for report in self.reports)

    def _here(self) -> None:
        if self.is_away:
            raise Unreachable("connection refused")

    def operation(self) -> Operation:
        now = datetime.now(UTC)
        return Operation(
            id="op-1",
            workspace="default",
            kind=self.kind,
            subject="services/ridge",
            state=self.operation_state,
            epoch=self.epoch,
            attempts=self.epoch,
            max_attempts=3,
            created_at=now,
            created_by="test",
            deadline_at=now + timedelta(seconds=self.deadline_s),
        )

    def _claim(self, id: str, *, owner: str, node: str) -> Claim:
        self._here()
        if self.operation_state is not OperationState.QUEUED:
            raise OperationNotClaimable(**PROBLEM)
        self.epoch += 1
        self.operation_state = OperationState.RUNNING
        spec = self.deploy_spec.model_dump(mode="json") if self.deploy_spec else self.spec
        return Claim(operation=self.operation(), epoch=self.epoch, lease_s=30, heartbeat_s=self.heartbeat_s, spec=spec)

    def _fence(self, epoch: int) -> None:
        self._here()
        if epoch != self.epoch or self.operation_state.is_terminal:
            raise StaleAttempt(**PROBLEM)

    def _heartbeat(self, id: str, epoch: int) -> Heartbeat:
        self._fence(epoch)
        self.heartbeats += 1
        return Heartbeat(state=self.operation_state, lease_until=datetime.now(UTC) + timedelta(seconds=30))

    def _report(self, id: str, report: Report) -> Operation:
        self._fence(report.epoch)
        self.reports.append(report)
        if report.state.is_terminal:
            self.operation_state = report.state
        return self.operation()

    def _place(self, id: str, place: PlaceReplicas) -> ReplicaList:
        self._fence(place.epoch)
        assert self.deploy_spec
        self.want(
            *(
                self.deploy_spec.replica.model_copy(update={"name": f"ridge-r1-{number}"})
                for number in range(self.deploy_spec.num_replicas)
            )
        )
        return self._replicas(id)

    def _replicas(self, id: str, seen: str | None = None, wait_s: float = 0) -> ReplicaList:
        self._here()
        replicas = [
            self.seen(spec.name) or Replica(name=spec.name, revision="r1", node="here", state="pending")
            for spec in self.desired.replicas
        ]
        return ReplicaList(items=replicas, seen="x")

    def _activate(self, id: str, epoch: int) -> None:
        self._fence(epoch)
        self.activated.set()

    def _register(self, name: str, node: NodeRegister) -> None:
        self._here()
        self.registered.append(node)

    def _get_desired(self, name: str, seen: int | None = None, wait_s: float = 0) -> NodeDesired:
        self._here()
        if not self.registered:
            raise NotFound(**(PROBLEM | {"status": 404}))
        with self.changed:
            self.changed.wait_for(lambda: self.is_away or self.desired.generation != seen, timeout=min(wait_s, 1))
        self._here()
        return self.desired

    def _observe(self, name: str, observed: NodeObserved) -> None:
        self._here()
        self.observed = observed

    def _logs(self, name: str, logs: ReplicaLogs) -> None:
        self._here()
        for log in logs.logs:
            self.log_text[log.replica] = self.log_text.get(log.replica, "") + log.text
            self.log_offsets.setdefault(log.replica, []).append(log.offset)

    def _download(self, sha256: str, to: Path, *, progress: Callable[[int], None]) -> None:
        self._here()
        self.downloads.append(sha256)
        to.write_bytes(self.blobs_by_digest[sha256])
        progress(to.stat().st_size)

    def _routes(self, etag: str | None = None, wait_s: float = 0) -> tuple[str, dict] | None:
        self._here()
        if self.routes is None or self.routes[0] == etag:
            time.sleep(0.05)
            return None
        return self.routes


def environment_spec(lock: str = "", python_version: str = "3.11") -> EnvironmentSpec:
    return EnvironmentSpec(
        name="env",
        version=1,
        python_version=python_version,
        lock=lock,
        lock_digest=digest(lock.encode()),
        environment_variables={"GREETING": "hello"},
    )


GOOD_SCRIPT = b"""\
import os

def init():
    global model
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.txt")) as file:
        model = file.read()
    print("model loaded", flush=True)

def run(raw):
    return {"model": model, "raw": raw, "environment": dict(os.environ)}
"""


def replica_spec(
    plane: Plane,
    environment: EnvironmentSpec,
    *,
    name: str = "ridge-r1-0",
    script: bytes = GOOD_SCRIPT,
    generation: int = 1,
) -> ReplicaSpec:
    model = plane.put("model.txt", b"weights")
    return ReplicaSpec(
        name=name,
        workspace="default",
        service="ridge",
        revision="r1",
        target="process",
        entry_script="score.py",
        snapshot_digest="0" * 64,
        snapshot_files=[plane.put("score.py", script)],
        models=[ModelFiles(name="ridge", version=3, digest="0" * 64, files=[model])],
        environment=environment,
        generation=generation,
    )
