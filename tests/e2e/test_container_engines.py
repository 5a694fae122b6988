"""Containers of replicas on an engine of the test's own, which dies and comes back."""

from __future__ import annotations

import gc
import multiprocessing
import time
from types import SimpleNamespace

import pytest

from keelway.contracts.services import ContainerImage, ContainerResources, EnvironmentSpec, ReplicaSpec
from keelway_workers.containers import NODE
from keelway_workers.failures import WorkFailed
from keelway_workers.node_dir import NodeDir
from keelway_workers.replica_log import tail_of
from keelway_workers.subtree import Subtree
from keelway_workers.targets.docker import DockerTarget
from tests.support.images import BASE
from tests.support.stack import until

# Engines die here, and the engine's SDK leaves a socket that was refused to the collector of garbage.
pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

COUNTS = "import itertools, time\nfor n in itertools.count():\n    print(n, flush=True)\n    time.sleep(0.05)"
DOCKERFILE = f"FROM {BASE}\nENTRYPOINT {['python3', '-c', COUNTS]!r}\n".replace("'", '"')
NAME = "counts-r1-0"


class NoFiles:
    """A cache of blobs for what has none."""

    def fetch(self, digests, *, check):
        assert not list(digests)


@pytest.fixture
def node(tmp_path):
    """A node's directory and cache."""
    directory = NodeDir(tmp_path / "node")
    directory.make()
    return SimpleNamespace(dir=directory, cache=NoFiles(), replica_network=None)


@pytest.fixture
def spec(own_engine, base_tar, tmp_path):
    """A replica that counts, and the engine that has its image."""
    engine = own_engine()
    engine.docker("load", "-i", str(base_tar))
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text(DOCKERFILE)
    image_id = engine.docker("build", "--quiet", str(tmp_path / "context"))
    spec = ReplicaSpec(
        name=NAME,
        workspace="default",
        service="counts",
        revision="r1",
        target="docker",
        entry_script="score.py",
        snapshot_digest="0" * 64,
        snapshot_files=[],
        models=[],
        environment=EnvironmentSpec(name="e", version=1, python_version="3.11", lock="", lock_digest=""),
        generation=1,
        image=ContainerImage(identity="0" * 64, name="counts", image_id=image_id, files=[]),
        resources=ContainerResources(),
    )
    return SimpleNamespace(spec=spec, engine=engine)


@pytest.fixture
def target(node):
    """target(): what a supervisor has."""
    made = []

    def make():
        made.append(DockerTarget(node))
        return made[-1]

    yield make
    for each in made:
        each.close()
    gc.collect()


def keep(node, spec):
    """A supervisor that lives until it is killed."""
    DockerTarget(node).start(spec, Subtree())
    time.sleep(100)


def numbers(node):
    """What the log of the replica holds."""
    return [int(line) for line in tail_of(node.dir.replica(NAME), 10_000)]


def test_a_log_goes_on_where_another_supervisor_left_it(node, target, spec):
    first = multiprocessing.get_context("fork").Process(target=keep, args=(node, spec.spec))
    first.start()
    until(lambda: len(numbers(node)) > 10, "it has counted")
    first.kill()
    first.join()
    time.sleep(1)  # nobody reads

    second = target()
    found = second.inspect(NAME)

    assert found.is_alive
    came = len(numbers(node))
    until(lambda: len(numbers(node)) > came + 10, "it goes on")
    second.stop(NAME, 0)
    heard = numbers(node)
    assert sorted(set(heard)) == list(range(heard[-1] + 1))
    assert len(heard) - len(set(heard)) <= 20  # what was not noted yet: half a second, at 20 lines a second


def test_a_replica_is_what_it_was_while_its_engine_is_away(target, spec):
    ours = target()
    started = ours.start(spec.spec, Subtree())
    assert ours.inspect(NAME).is_alive

    spec.engine.kill()

    assert ours.inspect(NAME) == started
    assert target().inspect(NAME).is_alive  # a supervisor that has only its record
    assert not ours.is_available()
    ours.sweep()
    with pytest.raises(WorkFailed) as failed:
        ours.prepare(spec.spec, Subtree())
    assert failed.value.code == "engine-not-available"


def test_an_engine_that_hangs_holds_nobody_up_for_long(target, spec):
    ours = target()
    started = ours.start(spec.spec, Subtree())
    spec.engine.hang()

    begun = time.monotonic()
    ours.sweep()
    looked = time.monotonic() - begun
    ours.sweep()
    again = time.monotonic() - begun - looked

    assert ours.inspect(NAME) == started
    assert not ours.is_available()
    assert (looked < 20, again < 1) == (True, True)  # it is asked for five seconds, and then not for a while
    spec.engine.wake()


def test_a_container_without_a_record_goes_and_others_stay(node, target, spec):
    ours = target()
    ours.start(spec.spec, Subtree())
    stray = spec.engine.docker("run", "-d", "--label", f"{NODE}={node.dir.identity}", spec.spec.image.image_id)
    other = spec.engine.docker("run", "-d", "--label", f"{NODE}=another", spec.spec.image.image_id)

    before = set(spec.engine.docker("ps", "--quiet", "--no-trunc").split())
    ours.sweep()
    assert stray in spec.engine.docker("ps", "--quiet", "--no-trunc")  # it may be about to be written down
    ours.sweep()

    assert len(before) == 3
    assert set(spec.engine.docker("ps", "--quiet", "--no-trunc").split()) == before - {stray}
    assert other in before


def test_what_an_engine_refuses_is_said_and_leaves_nothing(target, spec):
    wrong = spec.spec.model_copy(
        update={"image": spec.spec.image.model_copy(update={"image_id": "sha256:" + "0" * 64})}
    )

    with pytest.raises(WorkFailed) as failed:
        target().start(wrong, Subtree())

    assert failed.value.code == "container-refused"
    assert spec.engine.docker("ps", "--all", "--quiet") == ""


def test_an_engine_that_is_not_there_is_no_reason_to_fail(target, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    ours = target()

    ours.tidy()
    ours.sweep()

    assert not ours.is_available()
    assert ours.inspect(NAME) is None
