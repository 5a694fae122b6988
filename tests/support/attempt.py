"""A worker's side of an operation, call by call."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.support.api import Api
from tests.support.registry import manifest, sha256

IMAGE = sha256(b"identity")


class Attempt:
    """A claim and what is said under it. Reports count up by themselves."""

    def __init__(self, api: Api, operation: str, *, node: str = "n", owner: str = "worker-1") -> None:
        response = claim(api, operation, node=node, owner=owner)
        assert response.status_code == 200, response.text
        self.api = api
        self.id = operation
        self.node = node
        self.claim = response.json()
        self.epoch: int = self.claim["epoch"]
        self.seq = 0

    def report(self, *, seq: int | None = None, **fields: Any) -> httpx2.Response:
        """Say something about the work."""
        self.seq = self.seq + 1 if seq is None else seq
        body = {"epoch": self.epoch, "seq": self.seq, **fields}
        return self.api.worker.post(f"/v1/operations/{self.id}/reports", json=body)

    def end(self, state: str = "succeeded", **fields: Any) -> dict[str, Any]:
        """The final report; the operation after it."""
        response = self.report(state=state, **fields)
        assert response.status_code == 200, response.text
        return response.json()

    def heartbeat(self) -> httpx2.Response:
        """I am still here."""
        return self.api.worker.post(f"/v1/operations/{self.id}/heartbeat", json={"epoch": self.epoch})

    def store(self, files: dict[str, bytes]) -> str:
        """Store what the operation made; the digest of its snapshot."""
        opened = self.api.worker.post(
            f"/v1/operations/{self.id}/files", json={"epoch": self.epoch, "files": manifest(files)}
        )
        assert opened.status_code == 200, opened.text
        for missing in opened.json()["missing"]:
            sent = self.api.worker.put(missing["upload_url"], content=files[missing["path"]])
            assert sent.status_code == 204, sent.text
        path = f"/v1/operations/{self.id}/files/{opened.json()['digest']}/commit"
        sealed = self.api.worker.post(path, json={"epoch": self.epoch})
        assert sealed.json()["state"] == "ready", sealed.text
        return opened.json()["digest"]

    def place(self, node: str | None = None, image: str = "env-1", **more: Any) -> httpx2.Response:
        """Ask for the replicas of a deployment."""
        body = {"epoch": self.epoch, "node": node or self.node, "image": image, **more}
        return self.api.worker.post(f"/v1/operations/{self.id}/replicas", json=body)

    def activate(self) -> httpx2.Response:
        """Send traffic to it."""
        return self.api.worker.post(f"/v1/operations/{self.id}/activate", json={"epoch": self.epoch})


def claim(api: Api, operation: str, *, node: str = "n", owner: str = "worker-1") -> httpx2.Response:
    """Ask for the right to work on an operation."""
    return api.worker.post(f"/v1/operations/{operation}/claim", json={"owner": owner, "node": node})


def lapse(api: Api, operation: str) -> None:
    """The lease of the attempt runs out now."""
    api.sql("UPDATE operations SET lease_until = now() - interval '1 second' WHERE id = %s", operation)


def observe(api: Api, node: str, *replicas: dict[str, Any], generation: int = 10_000) -> httpx2.Response:
    """A node says what it sees running."""
    return api.worker.put(f"/v1/nodes/{node}/observed", json={"generation": generation, "replicas": list(replicas)})


def ready(name: str, port: int = 9000) -> dict[str, Any]:
    """A replica as a node sees it when it answers."""
    return {"name": name, "state": "ready", "url": f"http://127.0.0.1:{port}", "pid": 42}


def image_result(files: str, **changes: Any) -> dict[str, Any]:
    """What a worker says of an image with the identity IMAGE whose files it stored."""
    return {
        "identity": IMAGE, "name": "keelway/environment:x", "image_id": "sha256:1", "base_image": "python:3.11-slim",
        "base_id": "sha256:0", "python_version": "3.11.2", "size_bytes": 12, "files": files,
        "archive": {"sha256": sha256(b"tar"), "size_bytes": 9}, "pushed": None, **changes,
    }  # fmt: skip


def package_result(files: str, **changes: Any) -> dict[str, Any]:
    """What a worker says of a package whose files it stored."""
    return {
        "image_id": "sha256:1", "base_image": "r.example/python:3.11-slim", "size_bytes": 12, "files": files,
        "archive": {"sha256": sha256(b"tar"), "size_bytes": 9}, "pushed": None, **changes,
    }  # fmt: skip
