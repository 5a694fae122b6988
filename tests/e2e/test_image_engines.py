"""An engine that dies while it builds, and one whose disk is full: said as what it is, with nothing left behind."""

from __future__ import annotations

import subprocess
import threading

import pytest

from keelway_workers.failures import WorkFailed, WorkStopped
from keelway_workers.images.context import ContextTar
from keelway_workers.images.engine import WORK, Engine
from tests.support.images import BASE

pytestmark = pytest.mark.timeout(300)


def load(engine, path):
    with path.open("rb") as file:
        engine.load(iter(lambda: file.read(1 << 20), b""), lambda _: None)


def context(path, dockerfile):
    tar = ContextTar(path, lambda: None)
    tar.text("Dockerfile", dockerfile)
    tar.close()
    return path


def test_an_engine_that_dies_in_the_midst_of_a_build_is_told_as_that(own_engine, base_tar, tmp_path):
    own = own_engine()
    engine = Engine(lambda: None)
    load(engine, base_tar)
    heard = threading.Event()
    killer = threading.Thread(target=lambda: heard.wait(60) and own.kill())
    killer.start()

    def say(line):
        if "Running in" in line:
            heard.set()

    with pytest.raises(WorkFailed) as failed:
        engine.build(context(tmp_path / "c.tar", f"FROM {BASE}\nRUN sleep 120\n"), tag="dies:1", say=say)

    killer.join()
    assert failed.value.code == "engine-lost"
    assert "went away while building the image" in failed.value.message


def test_work_that_is_stopped_cuts_a_build_off(own_engine, base_tar, tmp_path):
    own = own_engine()
    stopped = threading.Event()

    def check():
        if stopped.is_set():
            raise WorkStopped

    engine = Engine(check)
    load(engine, base_tar)

    with pytest.raises(WorkStopped):
        engine.build(
            context(tmp_path / "c.tar", f"FROM {BASE}\nRUN sleep 120\n"),
            tag="stopped:1",
            say=lambda line: "Running in" in line and stopped.set(),
        )

    assert own.docker("images", "--quiet", "stopped") == ""


def test_an_engine_whose_disk_is_full_is_told_as_that(own_engine, base_tar):
    own_engine("64m")
    engine = Engine(lambda: None)

    with pytest.raises(WorkFailed) as failed:
        load(engine, base_tar)

    assert failed.value.code == "disk-full"
    assert "container engine" in failed.value.message
    assert subprocess.run(["docker", "images", "--quiet"], capture_output=True, text=True).stdout == ""


def test_containers_that_a_killed_worker_left_are_removed_and_those_of_others_are_not(
    own_engine, base_tar, monkeypatch
):
    own = own_engine()
    engine = Engine(lambda: None)
    load(engine, base_tar)
    ours = own.docker("create", "--label", WORK, "--network", "none", BASE)
    theirs = own.docker("create", "--network", "none", BASE)

    engine.run(BASE, ["python3", "-c", "pass"])
    assert set(own.docker("ps", "--all", "--quiet", "--no-trunc").split()) == {ours, theirs}  # it may still be at work
    monkeypatch.setattr("keelway_workers.images.engine.ABANDONED_S", -1)
    engine.run(BASE, ["python3", "-c", "pass"])

    assert own.docker("ps", "--all", "--quiet", "--no-trunc") == theirs
