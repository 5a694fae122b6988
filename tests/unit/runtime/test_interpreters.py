"""The runtime on every interpreter that it promises to run on, as far as they are on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import uv

from tests.unit.runtime.conftest import Server, launch

RUNTIME = Path(__file__).parents[3] / "runtime"
VERSIONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
INSTALL_S = 120
RAW = """
    import os

    def init():
        print("loaded")

    def run(raw, request_headers):
        if raw == "crash":
            os._exit(1)
        return {"raw": raw, "type": request_headers["Content-Type"]}
"""
ASYNC = """
    import asyncio

    def init():
        pass

    async def run(raw):
        await asyncio.sleep(0.1)
        return raw
"""
HINTED = """
    from dataclasses import dataclass
    from typing import Dict, List, Optional

    @dataclass
    class Person:
        name: str
        age: Optional[int] = None

    def init():
        pass

    def run(people: List[Person], weights: Dict[str, float], is_fast: bool = False) -> List[str]:
        return [person.name for person in people]
"""
RAWHTTP = """
    from azureml.contrib.services.aml_request import AMLRequest, rawhttp
    from azureml.contrib.services.aml_response import AMLResponse

    def init():
        pass

    @rawhttp
    def run(request):
        return AMLResponse(request.get_data()[::-1], 201, {"X-Method": request.method})
"""
BATCHED = """
    import keelway_runtime

    def init():
        pass

    @keelway_runtime.batchable(max_size=8, max_delay_ms=2)
    def run(rows: list):
        return [row * 2 for row in rows]
"""
JSON = {"content-type": "application/json"}


def _found(version: str) -> str | None:
    """An interpreter of this version: pyenv's, or one on the PATH."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    of_pyenv = sorted(home.glob(f"{version}.*/bin/python"))
    return str(of_pyenv[-1]) if of_pyenv else shutil.which(f"python{version}")


def _installed(interpreter: str, venv: Path) -> str | None:
    """Why the runtime's dependencies could not be installed there; from what is cached, if it is."""
    needed = tomllib.loads((RUNTIME / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = hashlib.sha256(repr((interpreter, needed)).encode()).hexdigest()
    if (venv / "complete").is_file() and (venv / "complete").read_text() == wanted:
        return None
    shutil.rmtree(venv, ignore_errors=True)
    _run(uv.find_uv_bin(), "venv", "--quiet", "--python", interpreter, venv)
    for more in (["--offline"], []):
        install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", venv / "bin" / "python", *more, *needed]
        done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
        if done.returncode == 0:
            (venv / "complete").write_text(wanted)
            return None
    return done.stderr[-500:]


def _run(*command: str | Path, **environ: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, env={**os.environ, **environ})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=VERSIONS)
def python(request) -> str:
    """An interpreter that has the runtime's dependencies, kept from one run to the next."""
    interpreter = _found(request.param)
    if interpreter is None:
        pytest.skip(f"there is no Python {request.param} on this machine")
    venv = request.config.cache.mkdir("interpreters") / request.param
    reason = _installed(interpreter, venv)
    if reason is not None:
        pytest.skip(f"the runtime's dependencies are not to be had for Python {request.param}: {reason}")
    return str(venv / "bin" / "python")


@pytest.fixture
def start(python, tmp_path, monkeypatch):
    """start(name, script): a server of that interpreter, which need not be ready yet."""
    servers: list[Server] = []

    def start(name: str, script: str) -> Server:
        root = tmp_path / name
        root.mkdir()
        (root / "score.py").write_text(textwrap.dedent(script))
        monkeypatch.setattr(sys, "executable", python)  # which launch() runs
        servers.append(launch(root, PYTHONPATH=str(RUNTIME), PYTHONWARNINGS="error", KEELWAY_GRACE_S="2"))
        return servers[-1]

    yield start
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            server.process.kill()
        server.wait_exit()


def test_every_module_compiles_and_can_be_imported(python, tmp_path):
    modules = [f"keelway_runtime.{path.stem}" for path in (RUNTIME / "keelway_runtime").glob("*.py")]
    importing = "".join(f"import {name}\n" for name in modules if not name.endswith(("__init__", "__main__")))
    environ = {"PYTHONPATH": str(RUNTIME), "PYTHONPYCACHEPREFIX": str(tmp_path)}

    _run(python, "-W", "error", "-m", "compileall", "-q", RUNTIME / "keelway_runtime", **environ)
    _run(python, "-W", "error", "-c", importing, **environ)


def test_it_scores_every_kind_of_script_and_stops(start):
    scripts = {"raw": RAW, "async": ASYNC, "hinted": HINTED, "rawhttp": RAWHTTP, "batched": BATCHED}
    servers = {name: start(name, script) for name, script in scripts.items()}
    for server in servers.values():
        server.wait_ready()

    assert servers["raw"].score(b"x", {"content-type": "text/plain"}).json() == {"raw": "x", "type": "text/plain"}
    assert servers["async"].score(b"x").json() == "x"
    hinted = servers["hinted"]
    assert hinted.score({"people": [{"name": "ann"}], "weights": {"a": 1}}).json() == ["ann"]
    assert hinted.score({"people": [{"name": 1}], "weights": {}}).status == 400
    assert hinted.get("/swagger.json?version=3.1").json()["openapi"] == "3.1.0"
    answer = servers["rawhttp"].score(b"abc", {"content-type": "text/plain"})
    assert (answer.status, answer.body, answer.headers["x-method"]) == (201, b"cba", "POST")
    assert servers["batched"].score({"rows": [1, 2]}).json() == [2, 4]
    assert servers["raw"].score(b"crash").status == 502
    servers["raw"].wait_for(servers["raw"].is_ready)
    assert [server.stop() for server in servers.values()] == [0] * len(servers)
