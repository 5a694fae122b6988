"""A supervisor and real replicas: started, adopted, restarted, stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from keelway_workers import keeper as keeper_module
from keelway_workers import procs
from keelway_workers.failures import WorkFailed
from keelway_workers.record import load_record
from keelway_workers.targets.process import MARK_NODE, MARK_REPLICA
from tests.support.engine import engine_missing
from tests.unit.workers.plane import replica_spec

NAME = "ridge-r1-0"


def pid_of(settings, name: str = NAME) -> int:
    record = load_record(settings.node_dir / "replicas" / name, name)
    assert record.pid
    return record.pid


def score(url: str) -> dict:
    request = urllib.request.Request(f"{url}/score", data=b"ping", headers={"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)


def eventually(condition, timeout_s: float = 15) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def running(plane, environment, supervise):
    """A supervisor with one ready replica."""
    plane.want(replica_spec(plane, environment))
    supervised = supervise()
    plane.wait_for(NAME, "ready")
    return supervised


def test_a_node_says_what_it_has(plane, supervise, pythons):
    supervise()

    eventually(lambda: plane.registered)
    assert plane.registered[0].pythons[0] == pythons[0].version
    assert plane.registered[0].targets == ([] if engine_missing() else ["docker"]) + ["process"]
    assert plane.registered[0].capacity["cpu"] >= 1


def test_a_replica_that_is_killed_is_there_again_at_the_same_address(plane, settings, running):
    url, pid = plane.seen(NAME).url, pid_of(settings)

    os.kill(pid, signal.SIGKILL)

    eventually(lambda: plane.seen(NAME).restarts == 1)
    eventually(lambda: plane.seen(NAME).state == "ready", timeout_s=10)
    assert plane.seen(NAME).url == url
    assert pid_of(settings) != pid
    assert score(url)["model"] == "weights"


def test_a_replica_keeps_its_address_while_it_is_started_again(plane, settings, running):
    url = plane.seen(NAME).url
    urls = set()
    observe = plane._observe

    def remember(name, observed) -> None:
        urls.update(replica.url for replica in observed.replicas)
        observe(name, observed)

    plane.nodes.observed = remember

    os.kill(pid_of(settings), signal.SIGKILL)

    eventually(lambda: plane.seen(NAME).restarts == 1 and plane.seen(NAME).state == "ready")
    assert urls == {url}, "without it the gateway would forget the service"


def test_a_replica_outlives_its_supervisor_and_is_adopted(plane, settings, running, supervise):
    pid, url = pid_of(settings), plane.seen(NAME).url
    running.end()
    assert score(url)["model"] == "weights"
    states: list[list[str]] = []
    observe = plane._observe

    def remember(name, observed) -> None:
        states.append([replica.state for replica in observed.replicas])
        observe(name, observed)

    plane.nodes.observed = remember

    supervise()
    eventually(lambda: states)
    time.sleep(0.5)

    assert pid_of(settings) == pid
    assert plane.seen(NAME).restarts == 0
    assert all(seen == ["ready"] for seen in states), "it was never said to be away"


def test_a_replica_that_died_while_nobody_looked_is_started_again(plane, settings, running, supervise):
    pid = pid_of(settings)
    running.end()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    plane.observed = None

    supervise()
    plane.wait_for(NAME, "ready")

    assert pid_of(settings) != pid


def test_stopping_the_supervisor_with_its_replicas_starts_them_again_later(plane, settings, running, supervise):
    pid = pid_of(settings)
    running.end(stop_replicas=True)
    assert procs.birth(pid) is None
    assert json.loads((settings.node_dir / "desired.json").read_text())["replicas"]
    plane.observed = None

    supervise()

    plane.wait_for(NAME, "ready")


def test_what_is_not_wanted_is_stopped_and_forgotten(plane, settings, running):
    pid = pid_of(settings)

    plane.want()

    eventually(lambda: plane.seen(NAME) is None)
    assert procs.birth(pid) is None
    assert not (settings.node_dir / "replicas" / NAME).exists()
    assert plane.observed.generation == plane.desired.generation


def test_nothing_is_stopped_before_the_api_was_ever_heard(plane, settings, running, supervise):
    pid = pid_of(settings)
    running.end()
    (settings.node_dir / "desired.json").write_text("{ torn")
    plane.is_away = True

    supervise()
    time.sleep(1)

    assert procs.birth(pid) is not None


def test_a_node_goes_on_while_the_api_is_away(plane, settings, running):
    plane.is_away = True
    pid = pid_of(settings)

    os.kill(pid, signal.SIGKILL)

    eventually(lambda: load_record(settings.node_dir / "replicas" / NAME, NAME).pid not in {None, pid})
    plane.is_away = False
    eventually(lambda: plane.seen(NAME).restarts == 1 and plane.seen(NAME).state == "ready")


def test_a_replica_that_never_was_ready_fails_once(plane, settings, environment, supervise):
    script = b"raise ImportError('gone')\n"
    plane.want(replica_spec(plane, environment, script=script))
    supervise()

    failed = plane.wait_for(NAME, "failed")
    time.sleep(1)

    assert failed.exit_code == 3
    assert "ImportError: gone" in failed.log_tail
    assert plane.seen(NAME).state == "failed"
    assert plane.seen(NAME).restarts == 0


def test_a_failed_replica_stays_failed_over_a_restart_of_the_supervisor(plane, environment, supervise):
    plane.want(replica_spec(plane, environment, script=b"raise ImportError('gone')\n"))
    supervised = supervise()
    plane.wait_for(NAME, "failed")
    supervised.end()
    plane.observed = None

    supervise()

    assert "ImportError: gone" in plane.wait_for(NAME, "failed").log_tail


def test_a_new_generation_is_a_new_chance(plane, settings, environment, supervise, tmp_path):
    gate = tmp_path / "open"
    script = f"open({str(gate)!r})\ndef init(): pass\ndef run(raw): return raw\n".encode()
    plane.want(replica_spec(plane, environment, script=script))
    supervise()
    plane.wait_for(NAME, "failed")
    gate.touch()

    plane.want(replica_spec(plane, environment, script=script, generation=2))

    plane.wait_for(NAME, "ready")


def test_a_new_generation_alone_leaves_a_running_replica_alone(plane, settings, environment, running):
    pid = pid_of(settings)

    plane.want(replica_spec(plane, environment, generation=2))

    eventually(lambda: load_record(settings.node_dir / "replicas" / NAME, NAME).generation == 2)
    assert pid_of(settings) == pid


def test_another_spec_of_the_same_name_replaces_the_replica(plane, settings, environment, running):
    other = b"def init(): pass\ndef run(raw): return {'model': 'other'}\n"

    plane.want(replica_spec(plane, environment, script=other, generation=2))

    def is_replaced() -> bool:
        try:
            return score(plane.wait_for(NAME, "ready").url)["model"] == "other"
        except OSError:
            return False

    eventually(is_replaced)


def test_a_replica_killed_between_start_and_record_leaves_no_stray(plane, settings, node, environment, supervise):
    stray = subprocess.Popen(
        ["/bin/sleep", "100"],
        env={MARK_REPLICA: NAME, MARK_NODE: str(settings.node_dir)},
        start_new_session=True,
    )
    other = subprocess.Popen(
        ["/bin/sleep", "100"], env={MARK_REPLICA: NAME, MARK_NODE: "/elsewhere"}, start_new_session=True
    )

    supervise()

    try:
        assert stray.wait(timeout=10) == -signal.SIGKILL
        assert other.poll() is None, "another node's"
    finally:
        other.kill()
        other.wait()


def test_what_a_script_started_ends_with_its_replica(plane, settings, environment, supervise, tmp_path):
    note = tmp_path / "pid"
    script = (
        "import subprocess\n"
        "def init():\n"
        "    process = subprocess.Popen(['/bin/sleep', '100'], start_new_session=True)\n"
        f"    open({str(note)!r}, 'w').write(str(process.pid))\n"
        "def run(raw): return raw\n"
    ).encode()
    plane.want(replica_spec(plane, environment, script=script))
    supervise()
    plane.wait_for(NAME, "ready")
    child = int(note.read_text())
    assert procs.birth(child) is not None

    plane.want()

    eventually(lambda: plane.seen(NAME) is None)
    assert procs.birth(child) is None


def test_a_wiped_cache_is_filled_again_by_the_supervisor(plane, settings, running):
    shutil.rmtree(settings.node_dir / "blobs")

    os.kill(pid_of(settings), signal.SIGKILL)

    eventually(lambda: plane.seen(NAME).restarts == 1 and plane.seen(NAME).state == "ready")


def test_damaged_bytes_are_never_served(plane, settings, environment, supervise):
    spec = replica_spec(plane, environment)
    plane.blobs_by_digest[spec.models[0].files[0].sha256] = b"weightz"
    plane.want(spec)

    supervise()

    assert "digest" in plane.wait_for(NAME, "failed").reason


def test_a_target_that_is_not_here_fails_in_words(plane, environment, supervise):
    plane.want(replica_spec(plane, environment).model_copy(update={"target": "moon"}))

    supervise()

    assert "'moon'" in plane.wait_for(NAME, "failed").reason


def test_a_replica_that_does_not_answer_probes_is_reported_and_not_restarted(plane, settings, running, monkeypatch):
    monkeypatch.setattr(keeper_module, "is_ready", lambda url, timeout_s: False)

    plane.wait_for(NAME, "unready")
    pid = pid_of(settings)
    monkeypatch.undo()

    plane.wait_for(NAME, "ready")
    assert pid_of(settings) == pid
    assert plane.seen(NAME).restarts == 0


def test_a_port_taken_meanwhile_is_replaced_by_another(plane, settings, running, supervise):
    url = plane.seen(NAME).url
    port = int(url.rpartition(":")[2])
    running.end(stop_replicas=True)
    plane.observed = None
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        squatter.listen()

        supervise()
        replica = plane.wait_for(NAME, "ready")

    assert replica.url != url


def test_replica_logs_arrive_also_after_the_api_was_away(plane, settings, environment, supervise):
    plane.is_away = True
    plane.want(replica_spec(plane, environment))
    plane.registered.append(None)  # type: ignore[arg-type]
    plane.is_away = False
    supervised = supervise()
    plane.wait_for(NAME, "ready")
    eventually(lambda: "model loaded" in plane.log_text.get(NAME, ""))
    supervised.end()
    sent = plane.log_text[NAME]

    supervise()
    time.sleep(1)

    assert plane.log_text[NAME].count("model loaded") == sent.count("model loaded") == 1


def test_the_environment_of_a_replica_is_ours_alone(plane, settings, running):
    variables = score(plane.seen(NAME).url)["environment"]

    assert variables["AZUREML_MODEL_DIR"].endswith("azureml-models/ridge/3")
    assert variables["AML_APP_ROOT"] == str(settings.node_dir / "replicas" / NAME / "app")
    assert variables["HOME"].startswith(variables["AML_APP_ROOT"])
    assert not {name for name in variables if "TOKEN" in name or "SECRET" in name}


def test_a_start_without_room_is_tried_again(plane, settings, running, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise WorkFailed("disk-full", "the node has no disk space left")

    monkeypatch.setattr("keelway_workers.targets.process.lay_out", full)
    os.kill(pid_of(settings), signal.SIGKILL)
    eventually(lambda: plane.seen(NAME).state == "crashed" and "disk space" in plane.seen(NAME).reason)

    monkeypatch.undo()

    plane.wait_for(NAME, "ready")
