"""One real environment a session, and a node directory for each test."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from pydantic import SecretStr

from keelway.contracts.services import EnvironmentSpec
from keelway_workers import environments, procs
from keelway_workers.node import Node
from keelway_workers.pythons import find_pythons
from keelway_workers.settings import WorkerSettings
from keelway_workers.subtree import Subtree
from keelway_workers.supervisor import Supervisor
from keelway_workers.targets.process import MARK_NODE, MARK_REPLICA
from tests.unit.workers.plane import Plane, environment_spec

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session", autouse=True)
def runtime_wheel() -> Path:
    """The wheel that `make setup` builds."""
    if not list(environments.WHEELS.glob("*.whl")):
        subprocess.run(
            [uv.find_uv_bin(), "build", "--wheel", ROOT / "runtime", "-o", environments.WHEELS], cwd="/", check=True
        )
    return environments.runtime_wheel()


@pytest.fixture(scope="session")
def lock() -> str:
    """What the runtime itself needs, with hashes."""
    needs = str(ROOT / "runtime" / "pyproject.toml")
    argv = [uv.find_uv_bin(), "pip", "compile", "--generate-hashes", "--python-version", "3.11", needs]
    return subprocess.run(argv, cwd="/", check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def environment(lock: str) -> EnvironmentSpec:
    return environment_spec(lock)


@pytest.fixture(scope="session")
def built_environments(tmp_path_factory: pytest.TempPathFactory, environment: EnvironmentSpec) -> Path:
    """A folder of environments that already has ours."""
    root = tmp_path_factory.mktemp("built")
    settings = WorkerSettings(worker_token=SecretStr("secret"), node_dir=root, node_name="here")
    node = Node(settings, Plane())  # type: ignore[arg-type]
    node.environments.ensure(environment, subtree=Subtree(), say=lambda _: None)
    return node.dir.environments


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
def settings(tmp_path: Path, built_environments: Path) -> Iterator[WorkerSettings]:
    """A node whose replicas end with the test."""
    root = tmp_path / "node"
    root.mkdir()
    (root / "environments").symlink_to(built_environments)
    yield WorkerSettings(worker_token=SecretStr("secret-token"), node_dir=root, node_name="here")
    for pid, variables in procs.marked(MARK_REPLICA).items():
        if variables.get(MARK_NODE) == str(root):
            procs.kill_marked({MARK_REPLICA: variables[MARK_REPLICA], MARK_NODE: str(root)})
            assert procs.birth(pid) is None


@pytest.fixture
def node(settings: WorkerSettings, plane: Plane) -> Node:
    return Node(settings, plane)  # type: ignore[arg-type]


class Supervised:
    """A supervisor in a thread."""

    def __init__(self, settings: WorkerSettings, plane: Plane) -> None:
        self.supervisor = Supervisor(settings, Node(settings, plane), plane)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=self.supervisor.run)
        self.thread.start()

    def end(self, *, stop_replicas: bool = False) -> None:
        self.supervisor.end(stop_replicas=stop_replicas)
        self.thread.join(timeout=20)
        assert not self.thread.is_alive()


@pytest.fixture
def supervise(settings: WorkerSettings, plane: Plane) -> Iterator[type[Supervised] | object]:
    """Starts a supervisor; each is ended after the test, its replicas too."""
    started: list[Supervised] = []

    def start() -> Supervised:
        started.append(Supervised(settings, plane))
        return started[-1]

    yield start
    for each in started:
        each.end(stop_replicas=True)


@pytest.fixture(scope="session")
def pythons() -> list:
    return find_pythons()
