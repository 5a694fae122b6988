"""Making models, snapshots, environments and services through the API, for tests that are about something else."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import httpx2

from tests.support.api import Api

SCRIPT = b"def init(): pass\ndef run(data): return data\n"


def sha256(data: bytes) -> str:
    """The digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def manifest(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """The manifest of files by path."""
    return [{"path": path, "size_bytes": len(data), "sha256": sha256(data)} for path, data in files.items()]


def unique_bytes() -> bytes:
    """Bytes that no other test has."""
    return uuid.uuid4().bytes


def open_version(http: httpx2.Client, w: str, name: str, files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    """A version in state `uploading`."""
    response = http.post(f"{w}/models/{name}/versions", json={"files": manifest(files), **more})
    assert response.status_code == 201, response.text
    return response.json()


def send(http: httpx2.Client, upload: dict[str, Any], files: dict[str, bytes]) -> None:
    """PUT what an upload misses."""
    for missing in upload["missing"]:
        response = http.put(missing["upload_url"], content=files[missing["path"]])
        assert response.status_code == 204, response.text


def register(http: httpx2.Client, w: str, name: str, files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    """A ready version."""
    upload = open_version(http, w, name, files, **more)
    send(http, upload, files)
    response = http.post(f"{w}/models/{name}/versions/{upload['version']}/commit")
    assert response.status_code == 200, response.text
    return response.json()


def snapshot(http: httpx2.Client, w: str, files: dict[str, bytes]) -> dict[str, Any]:
    """A committed snapshot."""
    response = http.post(f"{w}/snapshots", json={"files": manifest(files)})
    assert response.status_code == 201, response.text
    send(http, response.json(), files)
    response = http.post(f"{w}/snapshots/{response.json()['digest']}/commit")
    assert response.status_code == 200, response.text
    return response.json()


def environment(api: Api, workspace: str, name: str = "env") -> str:
    """An environment version, written straight into the database: resolving needs a package index. Its id."""
    api.sql(
        "WITH e AS (INSERT INTO environments (id, workspace_id, name, last_version) "
        "SELECT gen_random_uuid(), id, %s, 1 FROM workspaces WHERE name = %s RETURNING id) "
        "INSERT INTO environment_versions (id, environment_id, version, content_digest, definition, python_version, "
        "requirements, lock, lock_digest, created_by) "
        "SELECT gen_random_uuid(), id, 1, %s, %s, '3.11', '[]', 'six==1.17.0', %s, 'tester' FROM e",
        name,
        workspace,
        uuid.uuid4().hex * 2,
        json.dumps({"pip_requirements": "six", "environment_variables": {"A": "b"}}),
        sha256(b"six==1.17.0"),
    )
    return f"{name}:1"


def node(api: Api, name: str | None = None, pythons: tuple[str, ...] = ("3.11.7",)) -> str:
    """A registered node; its name."""
    name = name or f"n-{uuid.uuid4().hex[:8]}"
    response = api.worker.put(f"/v1/nodes/{name}", json={"pythons": list(pythons), "targets": ["process"]})
    assert response.status_code == 200, response.text
    return name


def service_body(api: Api, workspace: str, **more: Any) -> dict[str, Any]:
    """What to POST for a service whose model, snapshot and environment exist."""
    w = f"/v1/workspaces/{workspace}"
    register(api.admin, w, "ridge", {"model.pkl": unique_bytes()})
    source = snapshot(api.admin, w, {"score.py": SCRIPT})
    found = api.admin.get(f"{w}/environments/env/versions/latest")
    reference = found.json()["id"] if found.status_code == 200 else environment(api, workspace)
    return {
        "name": "ridge-svc",
        "models": ["ridge:latest"],
        "inference_config": {"entry_script": "score.py", "snapshot": source["digest"], "environment": reference},
        **more,
    }


def service(api: Api, workspace: str, **more: Any) -> dict[str, Any]:
    """A service whose deployment waits for a worker."""
    response = api.admin.post(f"/v1/workspaces/{workspace}/services", json=service_body(api, workspace, **more))
    assert response.status_code == 202, response.text
    return response.json()


def build(api: Api, workspace: str) -> str:
    """A queued operation, the simplest kind; its id."""
    found = api.admin.get(f"/v1/workspaces/{workspace}/environments/env/versions/1")
    if found.status_code == 404:
        environment(api, workspace)
    response = api.admin.post(f"/v1/workspaces/{workspace}/environments/env/versions/1/build")
    assert response.status_code == 202, response.text
    return response.json()["id"]
