"""The API alone, without workers, on real services: for tests that play the worker themselves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg
from psycopg.rows import dict_row

from keelway_standalone.addresses import load
from keelway_standalone.control import Control
from tests.support.stack import Stack, until

LEASE_S = 5
CLOCK_S = 0.3
SETTINGS = {
    "KEELWAY_LATE_WRITER_S": "0",
    "KEELWAY_LEASE_S": str(LEASE_S),
    "KEELWAY_CLOCK_S": str(CLOCK_S),
    "KEELWAY_OPERATION_DEADLINE_S": "600",
}
TIMEOUT_S = 40.0
START_S = 90.0  # as long as a stack may take: what a busy machine takes is nobody's mistake


class Api:
    """`python -m keelway_api` beside embedded services, which a test may kill and must wait for."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.stack = Stack(folder, services_only=True)
        self._settings = settings
        self.log = folder / "api.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, httpx2.Client] = {}

    def start(self) -> None:
        """Services, migrations, the API; nothing is left of a start that fails."""
        self.stack.start()
        try:
            self._migrate()
            self.start_api()
        except BaseException:
            self.stop()
            raise

    def start_api(self) -> None:
        """The API process; waits until it is ready and knows its tokens."""
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "keelway_api"]
            self._process = subprocess.Popen(command, env=self.env(), stdout=output, stderr=output)
        until(self._is_ready, "the API is ready", START_S)

    def change(self, **settings: str) -> None:
        """Other settings, from the next start on."""
        self._settings |= settings

    def stop(self) -> None:
        """Everything ends."""
        for client in self._clients.values():
            client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)
        self.stack.stop()

    def kill_api(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        self.process.kill()
        self.process.wait()

    def stop_api(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The API's process."""
        assert self._process is not None, "the API was not started"
        return self._process

    @property
    def url(self) -> str:
        """Its address."""
        return load(self.stack.layout.addresses).url

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return load(self.stack.layout.addresses).port

    @property
    def rss_bytes(self) -> int:
        """Memory that the API holds now."""
        return psutil.Process(self.process.pid).memory_info().rss

    def env(self, **more: str) -> dict[str, str]:
        """The environment of the API's processes, as `keelway up` would make it."""
        stack = self.stack
        control = Control(
            stack.layout,
            load(stack.layout.addresses),
            stack.secrets,
            database_url=stack.postgres.url,
            redis_url=stack.redis.url,
        )
        return {**control.api().env, **SETTINGS, **self._settings, **more}

    def token(self, name: str) -> str:
        """A token of the settings: `admin`, `worker` or `gateway`."""
        return self.stack.secrets.read(f"{name}_token")

    def client(self, token: str | None = None) -> httpx2.Client:
        """HTTP with a token, or without any. Redirects are not followed, nothing is retried."""
        key = token or ""
        if key not in self._clients:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._clients[key] = httpx2.Client(
                base_url=self.url, headers=headers, timeout=TIMEOUT_S, trust_env=False, limits=httpx2.Limits()
            )
        return self._clients[key]

    @property
    def admin(self) -> httpx2.Client:
        """HTTP as the administrator."""
        return self.client(self.token("admin"))

    @property
    def worker(self) -> httpx2.Client:
        """HTTP as a worker."""
        return self.client(self.token("worker"))

    @property
    def gateway(self) -> httpx2.Client:
        """HTTP as the gateway's keeper."""
        return self.client(self.token("gateway"))

    @property
    def nobody(self) -> httpx2.Client:
        """HTTP without a token."""
        return self.client()

    def workspace(self) -> str:
        """A new workspace with a name of its own."""
        name = f"w-{uuid.uuid4().hex[:10]}"
        response = self.admin.post("/v1/workspaces", json={"name": name})
        assert response.status_code == 201, response.text
        return name

    def new_token(self, role: str, workspace: str | None = None, *, name: str = "tester") -> dict[str, Any]:
        """A token with one role; the answer that carries its secret."""
        grant = {"role": role} | ({"workspace": workspace} if workspace else {})
        response = self.admin.post("/v1/tokens", json={"name": name, "grants": [grant]})
        assert response.status_code == 201, response.text
        return response.json()

    def as_role(self, role: str, workspace: str | None = None) -> httpx2.Client:
        """HTTP with a new token that has one role."""
        return self.client(self.new_token(role, workspace)["secret"])

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """The database as the API's role, in autocommit; rows are dicts."""
        with self.stack.postgres.connect() as connection:
            connection.row_factory = dict_row  # pyright: ignore[reportAttributeAccessIssue]
            yield connection  # pyright: ignore[reportReturnType]

    def sql(self, query: str, *values: object) -> list[dict[str, Any]]:
        """The rows of a query; none for a statement without."""
        with self.connection() as connection:
            cursor = connection.execute(query, values)  # pyright: ignore[reportArgumentType]
            return cursor.fetchall() if cursor.description else []

    def log_lines(self, *, since: int = 0) -> list[dict[str, Any]]:
        """What the API logged after `since` bytes, as far as it is JSON."""
        text = self.log.read_bytes()[since:].decode(errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def _migrate(self) -> None:
        command = [sys.executable, "-m", "keelway_api.migrate"]
        done = subprocess.run(command, env=self.env(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            ready = httpx2.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200
            headers = {"Authorization": f"Bearer {self.token('gateway')}"}
            return ready and httpx2.get(f"{self.url}/v1/whoami", headers=headers, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False


def wait_until(holds: Any, what: str, wait_s: float = 15.0) -> Any:
    """What `holds` gives once that is true; AssertionError naming it when it does not become so in time."""
    ends_at = time.monotonic() + wait_s
    while not (found := holds()):
        assert time.monotonic() < ends_at, f"not within {wait_s} s: {what}"
        time.sleep(0.03)
    return found
