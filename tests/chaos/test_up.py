"""`keelway up` is interrupted, killed and started again."""

import os
import signal
import subprocess
import sys
import time

import pytest

from keelway.errors import NotFound
from keelway_standalone.doctor import examine
from tests.chaos.conftest import SHORT
from tests.support.order import in_order
from tests.support.running import family, replicas
from tests.support.scripts import gated
from tests.support.stack import Stack, until
from tests.support.user import User

STOP_S = 15


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A stack for these tests alone: they end it, and start it again."""
    stack = Stack(tmp_path_factory.mktemp("own"), env=SHORT)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def owner(own, tmp_path_factory):
    """Somebody with a service on it."""
    owner = User(own, tmp_path_factory.mktemp("owner"))
    with owner.client:
        owner.deploy("lasting")
        yield owner


def answers_again(owner, address):
    service = owner.client.services.get("lasting")
    until(lambda: owner.scores(service), "the service answers again", 20)
    return service.scoring_uri == address


def test_an_interrupt_stops_everything_and_the_next_up_brings_it_back(own, owner):
    address = owner.client.services.get("lasting").scoring_uri
    assert len(replicas(own)) == 1
    began = time.monotonic()

    code = own.stop(signal.SIGINT)
    took_s = time.monotonic() - began
    left = own.processes()
    own.start()

    assert (code, left) == (0, [])
    assert took_s < STOP_S
    assert answers_again(owner, address)
    in_order(own, owner)


def test_an_up_that_was_killed_with_everything_recovers_all_of_it(own, owner, tmp_path):
    address = owner.client.services.get("lasting").scoring_uri
    content = os.urandom(3 * 2**20)
    version = owner.register("kept", content)
    handle = owner.start("in-flight", gated(tmp_path / "gate"))
    owner.until_step(handle, "Loading the model")
    before = {process.pid for process in own.processes()}

    own.kill_everything()
    (tmp_path / "gate").touch()
    own.start()
    ended = owner.ended(handle)

    assert ended.state == "succeeded", ended.error
    assert answers_again(owner, address)
    assert owner.client.models.download("kept", version.version, tmp_path / "got").read_bytes() == content
    assert not before & {process.pid for process in own.processes()}
    in_order(own, owner)
    assert examine(own.layout).wrong == []
    owner.delete("in-flight")


def test_an_up_that_alone_was_killed_takes_its_children_along_and_not_the_replicas(own, owner):
    (replica,) = replicas(own)
    service = owner.client.services.get("lasting")

    os.kill(own.pid, signal.SIGKILL)
    until(lambda: set(own.processes()) == set(family(replica.pid)), "only the replica is left", 10)
    own.start()

    assert replicas(own) == [replica]  # adopted, not started again
    assert answers_again(owner, service.scoring_uri)
    in_order(own, owner)


def test_a_second_up_is_refused_and_told_the_pid_of_the_first(own, owner):
    command = [sys.executable, "-m", "keelway_standalone", "up", "--data-dir", own.data_dir, "--port", "0"]

    second = subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert second.returncode == 1
    assert f"(pid {own.pid})" in second.stdout
    assert own.is_ready()
    assert owner.scores(owner.client.services.get("lasting"))


def test_a_service_deleted_while_its_supervisor_was_away_is_gone_afterwards(own, owner):
    owner.deploy("doomed")
    supervisor = own.kill("supervisor", signal.SIGSTOP)
    operation = owner.client.services.delete("doomed")
    own.kill_everything()

    own.start()
    ended = owner.client.operations.wait(operation.id, 60)

    assert supervisor
    assert ended.state == "succeeded"
    with pytest.raises(NotFound):
        owner.client.services.get("doomed")
    in_order(own, owner)
