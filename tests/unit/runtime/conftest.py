"""Real servers for the runtime's tests: `python -m keelway_runtime` in an app root laid out for the test."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

START_S = 60
EXAMPLES = Path(__file__).parents[3] / "examples"


class Response:
    """A complete HTTP answer."""

    def __init__(self, raw: http.client.HTTPResponse) -> None:
        self.status = raw.status
        self.headers = {name.lower(): value for name, value in raw.getheaders()}
        self.body = raw.read()

    def json(self):
        return json.loads(self.body)


class Server:
    """A running server and what it has printed so far."""

    def __init__(self, process: subprocess.Popen, port: int) -> None:
        self.process, self.port = process, port
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def request(self, method: str, path: str, body=None, headers=None) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            return Response(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, headers=None) -> Response:
        return self.request("GET", path, headers=headers)

    def score(self, body, headers=None) -> Response:
        """POST to /score: bytes as they are, anything else as JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.request("POST", "/score", body, headers or {"content-type": "application/json"})

    def wait_ready(self) -> Server:
        return self.wait_for(self.is_ready)

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz").status == 200
        except ConnectionRefusedError:  # the interpreter itself is still starting
            return False

    def wait_for(self, claim) -> Server:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output
            if claim():
                return self
            time.sleep(0.02)
        raise AssertionError(f"it did not come true: {self.output}")

    def wait_exit(self) -> int:
        code = self.process.wait(START_S)
        self._reader.join(5)
        return code

    def stop(self, sig: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.wait_exit()

    def events(self, name: str) -> list[dict]:
        parsed = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [event for event in parsed if event["event"] == name]

    def event_of(self, request_id: str, name: str) -> dict:
        """The one event of that name and request, once it has come through the pipe."""

        def found() -> list[dict]:
            return [event for event in self.events(name) if event.get("request_id") == request_id]

        self.wait_for(found)
        [event] = found()
        return event

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)
        if self.process.stdout:
            self.process.stdout.close()


def launch(app_root: Path, *, stdout: int = subprocess.PIPE, **environ: str) -> Server:
    """Start a server on a socket that is bound here, so that its port is known and free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        command = [sys.executable, "-m", "keelway_runtime"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KEELWAY_", "AZUREML_"))}
        process = subprocess.Popen(
            command,
            env={
                **inherited,
                "AML_APP_ROOT": str(app_root),
                "AZUREML_ENTRY_SCRIPT": "score.py",
                "KEELWAY_LISTEN_FD": str(listener.fileno()),
                **environ,
            },
            pass_fds=[listener.fileno()],
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Server(process, listener.getsockname()[1])


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """serve(script, **environ): a server of that script text; those still running are stopped at the end."""
    servers: list[Server] = []

    def start(script: str, *, app_root: Path | None = None, **environ) -> Server:
        root = app_root or tmp_path_factory.mktemp("app")
        (root / "score.py").write_text(textwrap.dedent(script))
        servers.append(launch(root, **environ))
        return servers[-1]

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def serve_example(tmp_path_factory):
    """serve_example(name, model): an example's own script, with the model its train.py makes."""
    servers: list[Server] = []

    def start(name: str, model: str) -> Server:
        root = tmp_path_factory.mktemp(name)
        folder = root / "azureml-models" / model / "1"
        folder.mkdir(parents=True)
        subprocess.run([sys.executable, EXAMPLES / name / "train.py", folder / f"{model}.pkl"], check=True)
        servers.append(launch(root, AZUREML_SOURCE_DIRECTORY=str(EXAMPLES / name), SERVICE_NAME=name))
        return servers[-1].wait_ready()

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def echo(serve):
    """An undecorated script that tells what it was given, or does what it is told."""
    return serve(ECHO, KEELWAY_MAX_BODY_BYTES="1000000", SERVICE_NAME="echo").wait_ready()


ECHO = """
    import logging, time

    def init():
        pass

    def run(raw, request_headers):
        print("scoring", raw[:30])
        logging.getLogger("mine").warning("looked at %s", raw[:30])
        if raw == "raise":
            raise ValueError("a secret of the script")
        if raw == "quit":
            raise SystemExit(1)
        if raw == "unencodable":
            return object()
        if raw.startswith("sleep "):
            time.sleep(float(raw[6:]))
        return {"raw": raw, "agent": request_headers.get("User-Agent"), "type": request_headers.get("content-type")}
"""
