"""Keelway's own processes on this host: migrations, API, worker, supervisor."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keelway_standalone.addresses import Addresses
from keelway_standalone.child import Program
from keelway_standalone.layout import Layout
from keelway_standalone.s3 import BUCKET, REGION
from keelway_standalone.secrets import Secrets
from keelway_standalone.surroundings import is_declared, networked

# What an operator may tune: these go from our own environment to the process that reads them.
API_PASSED = (
    "KEELWAY_ALLOWED_HOSTS",
    "KEELWAY_BEHIND_PROXY",
    "KEELWAY_INSECURE",
    "KEELWAY_LEASE_S",
    "KEELWAY_CLOCK_S",
    "KEELWAY_OPERATION_DEADLINE_S",
    "KEELWAY_NODE_AWAY_S",
    "KEELWAY_MAX_FILE_BYTES",
    "KEELWAY_CONDA_CHANNEL_BASE",
    "KEELWAY_CONDA_CHANNELS",
    "KEELWAY_REGISTRY_PULL_USERNAME",
    "KEELWAY_REGISTRY_PULL_PASSWORD",
    "KEELWAY_REGISTRY_PULL_PASSWORD_FILE",
)
NODE_PASSED = (
    "KEELWAY_WORKER_CONCURRENCY",
    "KEELWAY_PYTHONS",
    "KEELWAY_BASE_IMAGE",
    "KEELWAY_BUILD_NETWORK",
    "KEELWAY_REGISTRY",
    "KEELWAY_REGISTRY_USERNAME",
    "KEELWAY_REGISTRY_PASSWORD",
    "KEELWAY_REGISTRY_PASSWORD_FILE",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
)


class Control:
    """The settings of each process, as docs/processes.md lists them, and how to tell that it works."""

    def __init__(
        self, layout: Layout, addresses: Addresses, secrets: Secrets, *, database_url: str, redis_url: str
    ) -> None:
        self._layout = layout
        self._addresses = addresses
        self._secrets = secrets
        self._database_url = secrets.keep("database_url", database_url)
        self._redis_url = secrets.keep("redis_url", redis_url)
        self._supervised_since = datetime.now(UTC)

    def migrations(self) -> tuple[list[str], dict[str, str]]:
        """Command and environment of the migrations."""
        return [sys.executable, "-m", "keelway_api.migrate"], self._api_env()

    def api(self) -> Program:
        """The API."""
        command = [sys.executable, "-m", "keelway_api"]
        return self._program("api", command, self._api_env(), self._api_is_ready)

    def worker(self, hears: Callable[[], bool]) -> Program:
        """The worker, which builds and deploys. It is ready when it `hears` the doorbell."""
        command = [sys.executable, "-m", "keelway_workers", "worker"]
        return self._program("worker", command, self._worker_env(), hears)

    def supervisor(self) -> Program:
        """The supervisor of this node's replicas. SIGINT makes it stop them before it leaves."""
        command = [sys.executable, "-m", "keelway_workers", "supervisor"]
        return self._program(
            "supervisor",
            command,
            self._supervisor_env(),
            self._node_is_ready,
            prepare=self._forget_heartbeats,
            stop_signal=signal.SIGINT,
            stop_grace_s=6.5,
        )

    def _forget_heartbeats(self) -> None:
        self._supervised_since = datetime.now(UTC)

    def _node_is_ready(self) -> bool:
        """Whether the API counts this node as ready, by a heartbeat of the supervisor that runs now."""
        nodes = self.get("/v1/nodes")
        return any(
            node["name"] == self._addresses.node
            and node["state"] == "ready"
            and datetime.fromisoformat(node["heartbeat_at"]) > self._supervised_since
            for node in (nodes or {}).get("items", [])
        )

    def get(self, path: str) -> Any:
        """What the API answers to the administrator, or None while it does not answer with a 200."""
        headers = {"Authorization": f"Bearer {self._secrets.read('admin_token')}"}
        return get_json(self._addresses.url + path, headers)

    def _api_is_ready(self) -> bool:
        return get_json(f"{self._addresses.url}/readyz") is not None

    def _program(
        self, name: str, argv: list[str], env: Mapping[str, str], is_ready: Callable[[], bool], **more: Any
    ) -> Program:
        log = self._layout.log(name)
        return Program(name=name, argv=argv, env=env, cwd=self._layout.node, log=log, is_ready=is_ready, **more)

    def _file(self, name: str) -> Path:
        return self._secrets.path(name)

    def _api_env(self) -> dict[str, str]:
        at = self._addresses
        settings = {
            "KEELWAY_DATABASE_URL_FILE": self._database_url,
            "KEELWAY_REDIS_URL_FILE": self._redis_url,
            "KEELWAY_S3_ENDPOINT": at.s3_endpoint,
            "KEELWAY_S3_ACCESS_KEY_FILE": self._file("s3_access_key"),
            "KEELWAY_S3_SECRET_KEY_FILE": self._file("s3_secret_key"),
            "KEELWAY_S3_BUCKET": BUCKET,
            "KEELWAY_S3_REGION": REGION,
            "KEELWAY_S3_PUBLIC_URL": self._s3_public_url(),
            "KEELWAY_HOST": at.host,
            "KEELWAY_PORT": at.port,
            "KEELWAY_ADMIN_TOKEN_FILE": self._file("admin_token"),
            "KEELWAY_WORKER_TOKEN_FILE": self._file("worker_token"),
            "KEELWAY_GATEWAY_TOKEN_FILE": self._file("gateway_token"),
            "KEELWAY_GATEWAY_URL": os.environ.get("KEELWAY_GATEWAY_URL", at.gateway_url),
            "KEELWAY_STATUS_FILE": self._layout.status,
        }
        return networked(self._layout, settings, API_PASSED)

    def _s3_public_url(self) -> str:
        # Behind a proxy clients come from elsewhere, whatever we listen on.
        is_proxied = is_declared("KEELWAY_BEHIND_PROXY")
        return os.environ.get("KEELWAY_S3_PUBLIC_URL", "" if is_proxied else self._addresses.s3_public_url)

    def _node_env(self, **more: object) -> dict[str, str]:
        settings = {
            "KEELWAY_URL": self._addresses.url,
            "KEELWAY_WORKER_TOKEN_FILE": self._file("worker_token"),
            "KEELWAY_NODE_NAME": self._addresses.node,
            "KEELWAY_NODE_DIR": self._layout.node,
            **more,
        }
        return networked(self._layout, settings, NODE_PASSED)

    def _worker_env(self) -> dict[str, str]:
        return self._node_env(KEELWAY_REDIS_URL_FILE=self._redis_url)

    def _supervisor_env(self) -> dict[str, str]:
        return self._node_env(
            KEELWAY_GATEWAY_ROUTES_FILE=self._layout.routes, KEELWAY_GATEWAY_TOKEN_FILE=self._file("gateway_token")
        )


def get_json(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON of a 200, or None."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 (our own address)
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310
            return json.load(answer)
    except (OSError, ValueError):
        return None
