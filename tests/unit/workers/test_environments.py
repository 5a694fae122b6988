"""Environments: one identity, one build, whatever races and dies meanwhile."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import replace

import pytest

from keelway_workers import environments
from keelway_workers.environments import EnvironmentBuilder, Identity, passed_on, runtime_wheel, sweep_environments
from keelway_workers.failures import WorkFailed, WorkStopped
from keelway_workers.node_dir import NodeDir, lock
from keelway_workers.pythons import find_pythons
from keelway_workers.subtree import Subtree
from tests.unit.workers.plane import environment_spec

IDENTITY = Identity("lock", "3.11.7", None, "linux-x86_64-glibc-2.36", "wheel")


@pytest.fixture
def empty(tmp_path) -> NodeDir:
    node = NodeDir(tmp_path)
    node.make()
    return node


@pytest.mark.parametrize(
    "change",
    [
        {"lock_digest": "other"},
        {"python_version": "3.11.8"},
        {"base_image_digest": "sha256:1"},
        {"platform": "linux-aarch64-glibc-2.36"},
        {"runtime_wheel": "other"},
    ],
)
def test_every_part_changes_the_identity(change):
    assert replace(IDENTITY, **change).digest != IDENTITY.digest
    assert replace(IDENTITY).digest == IDENTITY.digest


def test_two_builds_at_once_do_the_work_once(empty, environment, pythons):
    said: list[str] = []
    paths = []

    def build() -> None:
        builder = EnvironmentBuilder(empty, find_pythons)
        paths.append(builder.ensure(environment, subtree=Subtree(), say=said.append).path)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(paths)) == 1
    assert len(paths) == 2
    assert sum(line.startswith("$ uv venv") for line in said) == 1
    assert not list(empty.environments.glob(".tmp-*"))
    code = "import keelway_runtime.server, httptools"
    subprocess.run([paths[0] / "bin" / "python", "-c", code], check=True, cwd="/")


def test_a_build_that_loses_a_race_without_locks_keeps_the_first(empty, tmp_path):
    (empty.environments / "abc").mkdir()
    (empty.environments / "abc" / "first").touch()
    ours = empty.environments / ".tmp-abc-1"
    ours.mkdir()

    environments._move_into_place(ours, empty.environments / "abc")

    assert (empty.environments / "abc" / "first").exists()


def test_what_the_resolver_refuses_is_shown(empty, pythons):
    spec = environment_spec(f"no-such-package-of-ours==1.0 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(WorkFailed) as failed:
        EnvironmentBuilder(empty, find_pythons).ensure(spec, subtree=Subtree(), say=lambda _: None)

    assert failed.value.code == "environment-build-failed"
    assert "no-such-package-of-ours" in "\n".join(failed.value.log_tail)
    assert not list(empty.environments.glob(".tmp-*"))


def test_a_full_disk_has_a_name_of_its_own():
    finished = environments.Finished(2, ["error: failed to write: No space left on device (os error 28)"])

    with pytest.raises(WorkFailed) as failed:
        environments.judge(environments.uv_command("pip", "install"), finished)

    assert (failed.value.code, "uv pip install" in failed.value.message) == ("disk-full", True)


def test_a_lock_without_its_digest_is_refused(empty, environment, pythons):
    spec = environment.model_copy(update={"lock": environment.lock + "# one line more\n"})

    with pytest.raises(WorkFailed) as failed:
        EnvironmentBuilder(empty, find_pythons).ensure(spec, subtree=Subtree(), say=lambda _: None)

    assert failed.value.code == "damaged-bytes"


def test_a_python_that_is_not_here_names_those_that_are(empty, pythons):
    with pytest.raises(WorkFailed) as failed:
        EnvironmentBuilder(empty, find_pythons).find(environment_spec(python_version="3.1"))

    assert failed.value.code == "python-not-available"
    assert pythons[0].version in failed.value.details["available"]


def test_a_killed_subtree_does_not_wait_for_somebody_elses_build(empty, environment, pythons):
    subtree = Subtree()
    builder = EnvironmentBuilder(empty, find_pythons)
    identity = builder._identify(environment).digest

    with lock(environments._lock_file(empty, identity), wait=True):
        timer = threading.Timer(0.3, subtree.kill)
        timer.start()
        with pytest.raises(WorkStopped):
            builder.ensure(environment, subtree=subtree, say=lambda _: None)
        timer.join()


def test_only_abandoned_half_builds_are_swept(empty):
    for digest in ("dead", "busy"):
        (empty.environments / f".tmp-{digest}-1").mkdir()

    with lock(environments._lock_file(empty, "busy"), wait=True):
        sweep_environments(empty)

    assert [folder.name for folder in empty.environments.glob(".tmp-*")] == [".tmp-busy-1"]


def test_uv_gets_the_operators_settings_and_no_secret_of_ours():
    environ = {
        "UV_INDEX_URL": "https://index",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca",
        "KEELWAY_WORKER_TOKEN": "secret",
        "PYTHONPATH": "/elsewhere",
        "VIRTUAL_ENV": "/venv",
    }

    kept = passed_on(environ)

    assert {"UV_INDEX_URL", "HTTPS_PROXY", "SSL_CERT_FILE"} <= kept.keys()
    assert not {"KEELWAY_WORKER_TOKEN", "PYTHONPATH", "VIRTUAL_ENV"} & kept.keys()


@pytest.mark.parametrize("names", [[], ["keelway_runtime-1-py3-none-any.whl", "keelway_runtime-2-py3-none-any.whl"]])
def test_there_must_be_exactly_one_runtime_wheel(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()

    with pytest.raises(WorkFailed, match="exactly one keelway_runtime wheel"):
        runtime_wheel(tmp_path)
