"""What a node says and hears, and the bytes and routes it fetches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2

from keelway.contracts.services import Node, NodeDesired, NodeObserved, NodeRegister, ReplicaLogs
from keelway.downloads import download_file
from keelway.errors import DamagedDownload
from keelway.resources.base import Resource, dumped, segment

SEND_TIMEOUT_S = 60.0


class Nodes(Resource):
    """`/v1/nodes`."""

    def register(self, name: str, node: NodeRegister) -> Node:
        """Say what a node is and has; repeated at every start."""
        return self._send(Node, "PUT", f"/v1/nodes/{segment(name)}", node)

    def list(self) -> Iterator[Node]:
        """All nodes."""
        return self._pages(Node, "/v1/nodes")

    def desired(self, name: str, seen: int | None = None, wait_s: float = 0) -> NodeDesired:
        """What should run on a node, once its generation differs from `seen` or after `wait_s`."""
        return self._poll(NodeDesired, f"/v1/nodes/{segment(name)}/desired", wait_s=wait_s, seen=seen)

    def observed(self, name: str, observed: NodeObserved) -> None:
        """What runs on a node now; its heartbeat as well."""
        self._client.request("PUT", f"/v1/nodes/{segment(name)}/observed", json=dumped(observed))

    def logs(self, name: str, logs: ReplicaLogs) -> None:
        """What a node's replicas wrote since the last time."""
        self._client.request("POST", f"/v1/nodes/{segment(name)}/logs", json=dumped(logs))

    def send_collected(self, name: str, replica: str, parts: Sequence[str], content: bytes) -> None:
        """A file of rows that a replica collected: its model, version, designation and name, and its bytes."""
        path = "/".join(["/v1/nodes", *map(segment, (name, "replicas", replica, "collected", *parts))])
        headers = {"Content-Type": "text/csv"}
        params = {"sha256": hashlib.sha256(content).hexdigest()}
        self._client.request("PUT", path, params=params, content=content, headers=headers, timeout_s=SEND_TIMEOUT_S)


class Blobs(Resource):
    """`/v1/blobs`."""

    def download(self, sha256: str, to: Path, *, progress: Callable[[int], None] = lambda _: None) -> None:
        """Put a blob's verified bytes at `to`, replacing what is there. DamagedDownload leaves `to` as it was.

        `progress` gets the number of bytes of each piece; what it raises ends the download and leaves nothing behind.
        """
        download_file(self._client, f"/v1/blobs/{segment(sha256)}", to, sha256=sha256, progress=progress)

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        """Some bytes of a blob, not verified: a digest is of the whole. DamagedDownload when fewer come."""
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        content = self._client.request("GET", f"/v1/blobs/{segment(sha256)}", headers=headers).content
        if len(content) != length:
            raise DamagedDownload(sha256, f"asked for {length} bytes at {offset}, got {len(content)}")
        return content


class Gateway(Resource):
    """`/v1/gateway`."""

    def routes(self, etag: str | None = None, wait_s: float = 0) -> tuple[str, dict] | None:
        """The gateway's configuration and its etag; None when it is still the one with that `etag` after `wait_s`."""
        headers = {"If-None-Match": etag} if etag else None
        response = self._client.poll("/v1/gateway/routes", wait_s=wait_s, headers=headers)
        if response.status_code == httpx2.codes.NOT_MODIFIED:
            return None
        return response.headers.get("etag", ""), response.json()
