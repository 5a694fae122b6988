"""The API and what it stands on die or stop answering while somebody registers and deploys."""

import signal
import threading
import time

import psutil
import pytest

from tests.support.running import family, replicas
from tests.support.scripts import ECHO, gated
from tests.support.stack import until

OUTAGE_S = 30.0


@pytest.fixture
def gate(tmp_path):
    """Scripts wait in init() until this file is there."""
    return tmp_path / "gate"


def deployed_once(stack, user, handle, *, attempts=1):
    """The deployment ended well, with one revision and one replica; then it is taken down."""
    ended = user.ended(handle)
    assert (ended.state, ended.attempts, ended.epoch) == ("succeeded", attempts, attempts), ended.error
    until(lambda: user.client.services.get(handle.service.name).state == "healthy", "the service is healthy")
    service = user.client.services.get(handle.service.name)
    assert (len(service.revisions), len(service.replicas)) == (1, 1)
    assert len(replicas(stack, service.name)) == 1
    assert user.scores(service)
    user.delete(service.name)


@pytest.mark.parametrize("name", ["supervisor", "api", "postgres", "redis"])
def test_a_deployment_goes_on_when_something_it_needs_is_killed(stack, user, gate, name):
    handle = user.start(f"without-{name}", gated(gate))
    user.until_step(handle, "Loading the model")
    before = [process.pid for process in replicas(stack, f"without-{name}")]

    killed = stack.kill(name)
    stack.wait_restarted(name, killed)
    gate.touch()

    deployed_once(stack, user, handle)
    assert len(before) == 1


def test_operations_that_were_queued_in_a_redis_that_was_wiped_all_run_once(stack, user):
    worker = family(stack.pid_of("worker"))
    for process in worker:
        process.suspend()
    handles = [user.start(f"queued-{number}") for number in range(3)]
    with stack.redis.client() as redis:
        until(lambda: redis.llen("keelway") >= 1, "the doorbell rang")
        names = ["keelway", "unacked", "unacked_index", "unacked_mutex", "_kombu.binding.keelway"]
        redis.delete(*names, *_node_queues(user))  # FLUSHALL, which the application itself has no right to

    for process in worker:
        process.resume()

    for handle in handles:
        deployed_once(stack, user, handle)


def _node_queues(user):
    names = [f"node.{node.name}" for node in user.client.nodes.list()]
    return [*names, *(f"_kombu.binding.{name}" for name in names)]


def test_operations_that_were_queued_in_a_redis_that_was_killed_all_run_once(stack, user):
    worker = psutil.Process(stack.pid_of("worker"))
    worker.suspend()
    handles = [user.start(f"lost-{number}") for number in range(2)]

    killed = stack.kill("redis")
    stack.wait_restarted("redis", killed)
    worker.resume()

    for handle in handles:
        deployed_once(stack, user, handle)


def test_an_object_store_that_stops_answering_holds_nothing_up_that_does_not_need_it(stack, user):
    handle = user.start("cached", ECHO)  # the same model and script as before: the node has the bytes
    user.ended(handle)
    user.delete("cached")
    inference = handle.service.inference_config

    stack.kill("s3", signal.SIGSTOP)
    try:
        asked = time.monotonic()
        status = user.client.request("GET", "/statusz", timeout_s=20).json()
        waited_s = time.monotonic() - asked
        again = user.client.services.deploy("cached", [user.model], inference)
        ended = user.ended(again)
    finally:
        stack.kill("s3", signal.SIGCONT)

    assert waited_s < 6
    assert status["dependencies"]["s3"] != "ok"
    assert status["dependencies"]["postgres"] == "ok"
    assert (ended.state, ended.attempts) == ("succeeded", 1), ended.error
    user.delete("cached")


def test_a_worker_that_is_killed_while_the_object_store_hangs_is_replaced_in_time(stack, user, gate):
    known = user.deploy("chatty").inference_config
    user.delete("chatty")
    handle = user.start("hung", gated(gate))
    user.until_step(handle, "Loading the model")

    stack.kill("s3", signal.SIGSTOP)
    try:
        user.ended(user.client.services.deploy("chatty", [user.model], known))  # leaves a log to be put into the store
        killed = stack.kill("worker")
        stack.wait_restarted("worker", killed)
        until(lambda: user.operation(handle).attempts == 2, "the lapsed lease is seen", 20)
    finally:
        stack.kill("s3", signal.SIGCONT)
    gate.touch()

    deployed_once(stack, user, handle, attempts=2)
    user.delete("chatty")


def test_half_a_minute_without_the_object_store_only_delays_what_needs_it(stack, user, tmp_path):
    known = user.deploy("before-it").inference_config
    unfetched = user.register("unfetched", b"the node has never seen these")
    content = b"registered while it hung" * 1000
    stack.kill("s3", signal.SIGSTOP)
    thaw = threading.Timer(OUTAGE_S, stack.kill, ["s3", signal.SIGCONT])
    thaw.start()

    fetching = user.client.services.deploy("fetching", [unfetched], known)
    version = user.register("hanging", content)
    handle = user.start("hanging-svc", ECHO + "# bytes of its own\n")

    thaw.join()
    assert version.version == 1
    assert user.client.models.download("hanging", 1, tmp_path).read_bytes() == content
    deployed_once(stack, user, fetching)
    deployed_once(stack, user, handle)
    user.delete("before-it")


def test_bytes_registered_while_the_object_store_is_away_arrive_once_it_is_back(stack, user, tmp_path):
    content = b"registered in an outage" * 1000
    killed = stack.kill("s3")

    version = user.register("outage", content)  # the SDK tries again for a minute
    handle = user.start("outage-svc", ECHO + "# other bytes\n")

    stack.wait_restarted("s3", killed)
    path = user.client.models.download("outage", version.version, tmp_path)
    assert (version.version, path.read_bytes()) == (1, content)
    deployed_once(stack, user, handle)


def test_an_upload_goes_on_when_the_api_is_killed_in_the_middle(stack, user, tmp_path):
    content = bytes(range(256)) * 4 * 2**12 * 8  # 32 MiB
    (tmp_path / "large.bin").write_bytes(content)
    killed = []

    def kill_halfway(phase, done, total):
        if phase == "upload" and done > total / 2 and not killed:
            killed.append(stack.kill("api"))

    version = user.client.models.register("large", tmp_path / "large.bin", progress=kill_halfway)

    assert killed
    assert [v.version for v in user.client.models.versions("large")] == [1]
    got = user.client.models.download("large", version.version, tmp_path / "got")
    assert got.read_bytes() == content
    stack.wait_restarted("api", killed[0])


def test_statusz_names_what_was_killed_and_started_again(stack, user):
    killed = stack.kill("gateway")
    stack.wait_restarted("gateway", killed)

    shown = user.client.request("GET", "/statusz").json()["processes"]

    gateway = next(child for child in shown if child["name"] == "gateway")
    assert (gateway["state"], gateway["last_exit"]) == ("running", "killed by SIGKILL")
    assert gateway["restarts"] >= 1


def test_the_api_answers_that_postgres_is_away_and_works_again_with_it(stack, user):
    stack.kill("postgres", signal.SIGSTOP)
    try:
        live = user.client.request("GET", "/livez", timeout_s=5)
    finally:
        stack.kill("postgres", signal.SIGCONT)

    assert live.json() == {"status": "ok"}
    assert user.client.whoami().name == "admin"
