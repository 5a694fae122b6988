"""Answers as the API gives them, made of the contracts themselves."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from keelway.contracts.environments import EnvironmentVersion
from keelway.contracts.experiments import OutputsState, OutputsUpload, Run, RunState
from keelway.contracts.files import FileEntry, MissingFile
from keelway.contracts.models import ModelVersionUpload, VersionState
from keelway.contracts.operations import Operation, OperationError, OperationKind, OperationState, Step
from keelway.contracts.packages import Package
from keelway.contracts.services import DeploymentConfig, InferenceConfig, Service, ServiceState
from keelway.contracts.snapshots import SnapshotState, SnapshotUpload

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
OPERATION_ID = "01940000-0000-7000-8000-000000000000"
PACKAGE_ID = "01940000-0000-7000-8000-000000000001"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: str, content: bytes) -> FileEntry:
    return FileEntry(path=path, size_bytes=len(content), sha256=sha256(content))


def missing(path: str, content: bytes, upload_url: str | None = None) -> MissingFile:
    url = upload_url or f"/v1/blobs/{sha256(content)}"
    return MissingFile(path=path, size_bytes=len(content), sha256=sha256(content), upload_url=url)


def version(files: list[FileEntry], *, wanted: list[MissingFile] | None = None, **fields: Any) -> dict[str, Any]:
    return ModelVersionUpload(
        **{
            "id": "ridge:1",
            "name": "ridge",
            "version": 1,
            "state": VersionState.UPLOADING if wanted else VersionState.READY,
            "files": files,
            "size_bytes": sum(file.size_bytes for file in files),
            "digest": "d" * 64,
            "missing": wanted or [],
            "created_at": NOW,
            "created_by": "me",
            "updated_at": NOW,
            "etag": '"1"',
            **fields,
        }
    ).model_dump(mode="json")


def snapshot(wanted: list[MissingFile] | None = None) -> dict[str, Any]:
    return SnapshotUpload(
        digest="a" * 64,
        state=SnapshotState.UPLOADING if wanted else SnapshotState.READY,
        files=[],
        size_bytes=1,
        created_at=NOW,
        created_by="me",
        missing=wanted or [],
    ).model_dump(mode="json")


def environment(name: str = "ridge-svc-env") -> dict[str, Any]:
    return EnvironmentVersion(
        id=f"{name}:1",
        name=name,
        version=1,
        python_version="3.11",
        requirements=["numpy"],
        lock_digest="b" * 64,
        created_at=NOW,
        created_by="me",
    ).model_dump(mode="json")


def operation(
    state: OperationState = OperationState.SUCCEEDED,
    *,
    steps: tuple[str, ...] = (),
    error: OperationError | None = None,
) -> dict[str, Any]:
    later = NOW + timedelta(seconds=1.5)
    return Operation(
        id=OPERATION_ID,
        workspace="default",
        kind=OperationKind.DEPLOY,
        subject="services/ridge-svc",
        state=state,
        epoch=1,
        attempts=1,
        max_attempts=3,
        steps=[Step(name=name, started_at=NOW, ended_at=later) for name in steps],
        error=error,
        created_at=NOW,
        created_by="me",
        deadline_at=NOW,
        etag=state,
    ).model_dump(mode="json")


def service(state: ServiceState = ServiceState.HEALTHY, **fields: Any) -> dict[str, Any]:
    inference = InferenceConfig(entry_script="score.py", snapshot="a" * 64, environment="ridge-svc-env:1")
    return Service(
        **{
            "name": "ridge-svc",
            "workspace": "default",
            "state": state,
            "target": "process",
            "scoring_uri": "http://127.0.0.1:7301/default/ridge-svc/score",
            "swagger_uri": "http://127.0.0.1:7301/default/ridge-svc/swagger.json",
            "generation": 1,
            "observed_generation": 1,
            "deployment_config": DeploymentConfig(),
            "inference_config": inference,
            "operation": OPERATION_ID,
            "created_at": NOW,
            "created_by": "me",
            "etag": '"1"',
            **fields,
        }
    ).model_dump(mode="json")


def run(state: RunState = RunState.RUNNING, **fields: Any) -> dict[str, Any]:
    said = {"id": "r1", "experiment": "exp", "state": state, "created_at": NOW, "created_by": "me", "etag": '"1"'}
    return Run(**{**said, **fields}).model_dump(mode="json")


def outputs(wanted: list[MissingFile] | None = None) -> dict[str, Any]:
    return OutputsUpload(
        id=OPERATION_ID,
        run="exp/r1",
        state=OutputsState.UPLOADING if wanted else OutputsState.READY,
        size_bytes=1,
        missing=wanted or [],
        created_at=NOW,
        created_by="me",
    ).model_dump(mode="json")


def package(**fields: Any) -> dict[str, Any]:
    return Package(
        **{
            "id": PACKAGE_ID,
            "workspace": "default",
            "kind": "image",
            "state": "ready",
            "models": ["ridge:1"],
            "inference_config": InferenceConfig(entry_script="score.py", snapshot="a" * 64, environment="env:1"),
            "environment": "env:1",
            "image": "package:1",
            "operation": OPERATION_ID,
            "created_at": NOW,
            "created_by": "me",
            **fields,
        }
    ).model_dump(mode="json")
