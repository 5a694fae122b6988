"""The client: one object for each group of routes, over one connection pool."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from keelway import context
from keelway.contracts.access import Whoami
from keelway.errors import KeelwayError
from keelway.resources.access import Tokens, Workspaces
from keelway.resources.base import LONG_POLL_MARGIN_S, parsed
from keelway.resources.environments import Environments
from keelway.resources.experiments import Experiments, Runs
from keelway.resources.images import Images
from keelway.resources.models import Models
from keelway.resources.nodes import Blobs, Gateway, Nodes
from keelway.resources.operations import Operations
from keelway.resources.packages import Packages
from keelway.resources.services import Services
from keelway.resources.snapshots import Snapshots
from keelway.resources.upkeep import Upkeep
from keelway.transport import Content, Transport

DEFAULT_URL = "http://127.0.0.1:7300"


class Client:
    """A Keelway, seen from one workspace. Thread-safe; use it as a context manager to close its connections.

    Address, token and workspace: the arguments, else `KEELWAY_URL`, `KEELWAY_TOKEN` and `KEELWAY_WORKSPACE`, else what
    `keelway login` stored, else `http://127.0.0.1:7300` and `default`. A stored token only goes to its own address.

    Connection errors and 503 are retried for `retry_for_s` seconds after the first failure; one answer may take
    `timeout_s`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        workspace: str | None = None,
        http: httpx2.Client | None = None,
        retry_for_s: float = 30.0,
        timeout_s: float = 60.0,
    ) -> None:
        url, token, self.workspace = _settings(url, token, workspace)
        self.timeout_s = timeout_s
        self._owns_http = http is None
        self.transport = Transport(
            url, token, http=http or httpx2.Client(), retry_for_s=retry_for_s, timeout_s=timeout_s
        )
        self.models = Models(self)
        self.experiments = Experiments(self)
        self.runs = Runs(self)
        self.snapshots = Snapshots(self)
        self.environments = Environments(self)
        self.images = Images(self)
        self.packages = Packages(self)
        self.services = Services(self)
        self.operations = Operations(self)
        self.workspaces = Workspaces(self)
        self.tokens = Tokens(self)
        self.nodes = Nodes(self)
        self.blobs = Blobs(self)
        self.gateway = Gateway(self)
        self.upkeep = Upkeep(self)

    @property
    def url(self) -> str:
        """The address in use."""
        return str(self.transport.url)

    def whoami(self) -> Whoami:
        """Who the API thinks you are."""
        return parsed(Whoami, self.request("GET", "/v1/whoami"))

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        retry_for_s: float | None = None,
        timeout_s: float | None = None,
    ) -> httpx2.Response:
        """Any request. An error answer raises the problem's exception, no answer raises Unreachable.

        A POST carries one Idempotency-Key over all its retries, so that it takes effect once.
        """
        return self.transport.request(
            method,
            path,
            json=json,
            params=params,
            headers=headers,
            content=content,
            retry_for_s=retry_for_s,
            timeout_s=timeout_s,
        )

    def poll(
        self,
        path: str,
        *,
        wait_s: float,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """A GET that the server may hold back for `wait_s` seconds."""
        if wait_s <= 0:
            return self.request("GET", path, params=params, headers=headers)
        return self.request(
            "GET",
            path,
            params={**(params or {}), "wait_s": wait_s},
            headers=headers,
            timeout_s=wait_s + LONG_POLL_MARGIN_S,
        )

    def close(self) -> None:
        """Close the connections, unless they were given by the caller."""
        if self._owns_http:
            self.transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _settings(url: str | None, token: str | None, workspace: str | None) -> tuple[str, str | None, str]:
    url = url or os.environ.get("KEELWAY_URL")
    token = token or _token_of_environment()
    workspace = workspace or os.environ.get("KEELWAY_WORKSPACE")
    if url and token and workspace:
        return url, token, workspace
    stored = context.current()
    # Never another address's token: it would hand the stored secret to whoever listens there.
    if stored and (url is None or url.rstrip("/") == stored.url):
        url, token, workspace = url or stored.url, token or stored.token, workspace or stored.workspace
    return url or DEFAULT_URL, token, workspace or "default"


def _token_of_environment() -> str | None:
    if file := os.environ.get("KEELWAY_TOKEN_FILE"):
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise KeelwayError(f"KEELWAY_TOKEN_FILE {file} cannot be read: {error.strerror}") from error
    return os.environ.get("KEELWAY_TOKEN")
