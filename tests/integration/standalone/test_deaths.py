"""Processes die; data and order stay."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from keelway_standalone.s3 import BUCKET
from tests.support.stack import Stack, until

NAMES = ["postgres", "redis", "s3", "gateway"]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_service_is_started_again_and_named_in_the_status(services, name):
    killed = services.kill(name)

    services.wait_restarted(name, killed)
    line = services.child(name)
    assert line["restarts"] >= 1
    assert line["last_exit"] == "killed by SIGKILL"
    assert line["last_exit_at"] is not None


def test_postgres_killed_with_its_backends_busy_keeps_every_committed_row(services):
    with services.postgres.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        killed = services.kill("postgres")
    services.wait_restarted("postgres", killed)

    with services.postgres.connect() as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_a_postmaster_pid_of_somebody_else_does_not_stop_postgres(services):
    killed = services.kill("postgres")
    until(lambda: services.pid_of("postgres") != killed, "the death is seen")
    pid_file = services.postgres.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{services.postgres.data}\n")

    services.wait_restarted("postgres", killed)


@pytest.fixture
def own(tmp_path):
    """A stack for one test alone, which may end it."""
    stack = Stack(tmp_path, services_only=True)
    stack.start()
    yield stack
    stack.stop()


def test_killing_everything_at_once_loses_nothing_and_leaves_no_process(own):
    with own.postgres.connect() as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    own.s3.client().put_object(BUCKET, "kept", io.BytesIO(b"bytes"), 5)
    before = {process.pid for process in own.processes()}
    sockets = own.postgres._sockets

    own.kill_everything()
    own.start()

    assert not before & {process.pid for process in own.processes()}
    assert not Path(sockets).exists()
    with own.postgres.connect() as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    with own.s3.client().get_object(BUCKET, "kept") as answer:
        assert answer.read() == b"bytes"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_order_within_fifteen_seconds(own, number):
    sockets = own.postgres._sockets
    started = time.monotonic()

    code = own.stop(number)

    assert code == 0
    assert time.monotonic() - started < 15
    assert own.processes() == []
    assert not Path(sockets).exists()
    assert own.status["state"] == "stopped"
    assert {child["state"] for child in own.status["children"]} == {"stopped"}
    assert "database system is shut down" in own.layout.log("postgres").read_text()


def test_a_second_interrupt_kills_at_once(own):
    for name in NAMES:
        own.kill(name, signal.SIGSTOP)  # so that none can follow its signal
    os.kill(own.pid, signal.SIGINT)
    until(lambda: own.status["state"] == "stopping", "the first is heard")
    started = time.monotonic()

    own.stop(signal.SIGINT)

    assert time.monotonic() - started < 2
    assert own.processes() == []


def test_children_die_with_an_up_that_is_killed(own):
    os.kill(own.pid, signal.SIGKILL)

    until(lambda: not own.processes(), "the kernel ended them", 5)
    assert own._up is not None
    own._up.wait()


def test_strays_of_a_dead_up_are_ended_before_the_next_start(own):
    own.stop()
    stray = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(100)"],
        env={"KEELWAY_STACK": str(own.data_dir)},
    )
    replica = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(100)"],
        env={"KEELWAY_REPLICA": "r", "KEELWAY_NODE_DIR": str(own.layout.node)},
    )
    until(lambda: len(own.processes()) == 2, "both run")

    own.start()

    assert stray.wait(1) == -signal.SIGKILL
    assert replica.poll() is None  # it goes on serving: the supervisor adopts it
    own.stop()
    assert replica.wait(1) == -signal.SIGKILL


def test_a_full_disk_ends_the_first_start_with_the_reason(tmp_path):
    stack = Stack(tmp_path, services_only=True)
    script = f"ulimit -f 8; exec {sys.executable} -m keelway_standalone up --data-dir {stack.data_dir} --port 0"

    failed = subprocess.run(
        ["bash", "-c", f"{script} --gateway-port 0 --services-only"], capture_output=True, text=True, timeout=60
    )

    assert failed.returncode == 1
    assert "keelway up failed" in failed.stdout
    assert not [p for p in psutil.process_iter() if p in stack.processes()]
