"""The peer: an MLflow tracking server on a database of the same Postgres, in a virtual environment of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import psycopg

REQUIREMENT = "mlflow==3.17.*"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keelway-bench" / "mlflow"
START_S = 300  # the first start makes its tables; on a busy machine that takes minutes
LOOK_S, BUSY_SHARE = 3.0, 0.1
SEED = """
SET LOCAL search_path = mlflow;
INSERT INTO registered_models (name, creation_time, last_updated_time, description, workspace)
    SELECT 'm' || m, 1, 1, '', 'default' FROM generate_series(1, %(models)s) AS m;
INSERT INTO model_versions (name, version, creation_time, last_updated_time, description, current_stage, source,
                            status, storage_location, workspace)
    SELECT 'm' || m, v, m * 1000 + v, m * 1000 + v, '', 'None', %(source)s, 'READY', %(source)s, 'default'
    FROM generate_series(1, %(models)s) AS m, generate_series(1, %(versions)s) AS v;
INSERT INTO model_version_tags (key, value, name, version, workspace)
    SELECT 'team', 't', 'm' || m, v, 'default'
    FROM generate_series(1, %(models)s) AS m, generate_series(1, %(versions)s) AS v;
"""


def installed() -> Path | None:
    """The environment's `bin`, made the first time; None when the package cannot be had."""
    if not (CACHE / "ready").exists():
        uv = str(Path(sys.executable).parent / "uv")
        packages = (REQUIREMENT, "psycopg[binary]", "boto3")
        for command in (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, str(CACHE)],
            [uv, "pip", "install", "-q", "--python", str(CACHE / "bin" / "python"), *packages],
        ):
            if subprocess.run(command, check=False).returncode:
                return None
        (CACHE / "ready").touch()
    return CACHE / "bin"


class MlflowServer:
    """`mlflow server` as it comes: its own number of workers, artifacts behind its proxy in a folder or a store."""

    def __init__(
        self, bin_dir: Path, folder: Path, database_url: str, *, artifacts: str = "", env: Mapping[str, str] = {}
    ) -> None:
        self._bin, self._folder, self._database_url = bin_dir, folder, database_url
        self._artifacts, self._env = artifacts or str(folder / "mlflow-artifacts"), env
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        """What is measured."""
        code = "from importlib.metadata import version; print(version('mlflow'))"
        return subprocess.check_output([self._bin / "python", "-c", code], text=True).strip()

    def start(self) -> None:
        """Start it and wait until it answers. Raises TimeoutError."""
        with psycopg.connect(self._database_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("CREATE SCHEMA mlflow")
        store = f"{self._database_url}&options=-csearch_path%3Dmlflow"
        command = [self._bin / "mlflow", "server", "--backend-store-uri", store, "--port", str(self.port)]
        with (self._folder / "mlflow.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--artifacts-destination", self._artifacts],
                env={**os.environ, **self._env},
                stdout=log,
                stderr=log,
            )
        ends_at = time.monotonic() + START_S
        while time.monotonic() < ends_at:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    self._wait_idle(ends_at)
                    return
            except OSError:
                time.sleep(0.3)
        raise TimeoutError(f"mlflow did not start in {START_S} s: {self._folder / 'mlflow.log'}")

    def _wait_idle(self, ends_at: float) -> None:
        """One worker answers while the others still import, for half a minute: that is nobody's speed."""
        used_s = -1.0
        while time.monotonic() < ends_at and (now_s := self._cpu_s()) - used_s > BUSY_SHARE * LOOK_S:
            used_s = now_s
            time.sleep(LOOK_S)

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        assert self._process
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def seed(self, *, models: int, versions: int) -> None:
        """Versions of models `m1`..., written straight into its tables."""
        with psycopg.connect(self._database_url.replace("+psycopg", "")) as connection:
            values: dict[str, Any] = {"models": models, "versions": versions, "source": "s3://bucket/model"}
            psycopg.ClientCursor(connection).execute(SEED, values)

    @property
    def rss_bytes(self) -> int:
        """Memory of the server and all its workers."""
        return sum(process.memory_info().rss for process in self._processes())

    def stop(self) -> None:
        """End it with its workers."""
        if self._process:
            self._process.terminate()
            self._process.wait(20)
