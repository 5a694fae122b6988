"""A server as a process: laid out in a folder of its own, started on one core, asked, looked at and ended."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template

import psutil

from benchmarks.scoring_bodies import MIB, are_right
from benchmarks.scoring_servers import Route, Server

START_S, STOP_S, ANSWER_S = 60, 10, 30
LOOK_S = 0.01
HOST = "127.0.0.1"


class Broken(RuntimeError):  # noqa: N818
    """A server does not start or answers wrongly; the message says how."""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started meanwhile runs on this core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Running:
    """One server, started and ended as often as asked."""

    def __init__(
        self, server: Server, environment: Path, bodies: Path, folder: Path, expected: Mapping[str, list[float]]
    ) -> None:
        self.server, self.bodies = server, bodies
        self._folder, self._expected = folder / server.name.replace("/", "-"), expected
        self._process: psutil.Popen | None = None
        self._lay_out(environment)

    def start(self, core: int) -> float:
        """Start it; seconds to its first good answer. Raises Broken."""
        began = time.perf_counter()
        with self._log.open("ab") as log, pinned(core):
            self._process = psutil.Popen(
                self._command, cwd=self._folder, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        body = next(iter(self.server.routes))
        while time.perf_counter() - began < START_S:
            if self._process.poll() is not None:
                raise Broken(f"ended with {self._process.returncode}: {self._log_end()}")
            with suppress(OSError, http.client.HTTPException):
                if self._ask(body)[0] == 200:
                    took_s = time.perf_counter() - began
                    self.check(body)
                    return took_s
            time.sleep(LOOK_S)
        raise Broken(f"did not answer in {START_S} s: {self._log_end()}")

    def stop(self) -> None:
        """End it with all its processes."""
        if self._process is None:
            return
        tree = self._tree()
        with suppress(psutil.NoSuchProcess):
            self._process.terminate()
        _, left = psutil.wait_procs(tree, STOP_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, STOP_S)
        self._process = None

    def check(self, body: str) -> None:
        """Ask once more. Raises Broken unless the answer is right."""
        try:
            status, answer = self._ask(body)
            figures = self.server.routes[body].figures(json.loads(answer)) if status == 200 else []
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise Broken(f"{body}: {error!r}") from error
        if not are_right(figures, self._expected[body]):
            raise Broken(f"{body}: {status} {answer[:200]!r}")

    def status_without_headers(self, body: str) -> int:
        """What it answers to somebody without a key. Raises Broken."""
        try:
            return self._ask(body, headers={})[0]
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"{body}: {error!r}") from error

    def metrics(self) -> str:
        """What it shows to a scraper. Raises Broken."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=ANSWER_S) as answer:
                return answer.read().decode()
        except OSError as error:
            raise Broken(f"/metrics: {error!r}") from error

    def forget_log(self) -> None:
        """Empty its log: at full load it grows by megabytes a second."""
        os.truncate(self._log, 0)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._ports[0]

    @property
    def cpu_s(self) -> float:
        """What all its processes have used."""
        return sum(sum(process.cpu_times()[:2]) for process in self._tree())

    @property
    def memory_mib(self) -> tuple[float, float]:
        """Of all its processes: PSS, which counts shared pages once, and RSS."""
        found = [process.memory_full_info() for process in self._tree()]
        return sum(one.pss for one in found) / MIB, sum(one.rss for one in found) / MIB

    def _tree(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        return [self._process, *self._process.children(recursive=True)]

    def _ask(self, body: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        route = self.server.routes[body]
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_S)
        try:
            content = (self.bodies / route.body).read_bytes()
            connection.request("POST", route.path, content, request_headers(self.server, route, headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _lay_out(self, environment: Path) -> None:
        self._folder.mkdir()
        self._log = self._folder / "server.log"
        shutil.copy(self.bodies / "model.joblib", self._folder)
        self._ports = _free_ports(3)
        filled = {
            "BIN": environment / "bin",
            "PYTHON": environment / "bin" / "python",
            "FOLDER": self._folder,
            "PORT": self._ports[0],
            "PORT_2": self._ports[1],
            "PORT_3": self._ports[2],
        }

        def fill(text: str) -> str:
            return Template(text).substitute(filled)

        for name, text in self.server.files.items():
            (self._folder / name).parent.mkdir(exist_ok=True)
            (self._folder / name).write_text(fill(text))
        self._command = [fill(word) for word in self.server.command]
        # Without what would keep bytecode from being written, or would configure one of the servers.
        prefixes = ("KEELWAY_", "AZUREML_", "AML_", "MLSERVER_", "BENTOML_", "PYTHON", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        self._env = inherited | {name: fill(value) for name, value in self.server.env.items()}

    def _log_end(self) -> str:
        return " ".join(self._log.read_text(errors="replace")[-600:].split())


def request_headers(server: Server, route: Route, headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a request of a server carries; other headers than its own where some are given."""
    return {"Content-Type": route.content_type, **(server.headers if headers is None else headers)}


def _free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to outgoing connections, which may take one before its server starts."""
    found = []
    for port in random.sample(range(20_000, 32_000), 500):
        with suppress(OSError), socket.create_server((HOST, port)):
            found.append(port)
        if len(found) == count:
            break
    return found
