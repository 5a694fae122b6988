"""docker-compose.yml for real: started as it stands, a model registered, deployed and scored, parts taken away."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose import ComposeStack, missing
from tests.support.stack import until

KEELWAY = Path(sys.executable).with_name("keelway")
SCRIPT = """\
import json, pickle
from azureml.core.model import Model
def init():
    global factor
    factor = pickle.load(open(Model.get_model_path('factor'), 'rb'))
def run(data):
    return [factor * x for x in json.loads(data)['data']]
"""
TRY_STORES = """\
import socket
for host, port in (("postgres", 5432), ("redis", 6379), ("s3", 8333), ({address!r}, 5432)):
    try:
        socket.create_connection((host, port), timeout=2)
        print("reached", host)
    except OSError:
        pass
"""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    if why := missing():
        pytest.skip(why)
    stack = ComposeStack(tmp_path_factory.mktemp("compose"))
    try:
        stack("up", "--detach", "--no-build", wait_s=400)
        until(lambda: stack.health("gateway") == "healthy", "the gateway is healthy", wait_s=60)
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def service(compose: ComposeStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The scoring address of a model that was deployed by the command line."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "factor.pkl").write_bytes(pickle.dumps(3))
    (folder / "source").mkdir()
    (folder / "source" / "score.py").write_text(SCRIPT)
    (folder / "source" / "environment.yml").write_text("name: factor\ndependencies: []\n")
    (folder / "ic.json").write_text(
        json.dumps({"entryScript": "score.py", "condaFile": "environment.yml", "sourceDirectory": "source"})
    )
    keelway(folder, "login", compose.url, "--token", compose.secret("admin_token"))
    keelway(folder, "model", "register", "-n", "factor", "-p", folder / "factor.pkl")
    keelway(folder, "model", "deploy", "-n", "factor-svc", "-m", "factor:1", "--ic", folder / "ic.json")
    return f"{compose.gateway_url}/default/factor-svc/score"


def keelway(folder: Path, *arguments: str | Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEELWAY_")}
    env = {**kept, "XDG_CONFIG_HOME": str(folder / "config")}
    done = subprocess.run([KEELWAY, *arguments], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def score(address: str) -> object:
    """What the service answers, or the status of its refusal."""
    request = urllib.request.Request(address, b'{"data": [1, 2]}', {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def test_a_model_is_registered_deployed_and_scored(service):
    assert score(service) == [3, 6]


def test_a_replica_cannot_reach_postgres_redis_or_the_store(compose, service):
    container = compose.container("postgres")
    shown = subprocess.run(["docker", "inspect", container], capture_output=True, check=True)
    networks = json.loads(shown.stdout)[0]["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]

    tried = compose.python("supervisor", TRY_STORES.format(address=address))

    assert (tried.returncode, tried.stdout) == (0, "")


def test_the_store_refuses_who_has_no_key_and_its_inner_doors_are_closed(compose):
    code = (
        "import socket, urllib.request as r, urllib.error as e\n"
        "try: print(r.urlopen('http://s3:8333/').status)\n"
        "except e.HTTPError as error: print(error.code)\n"
        "store = socket.gethostbyname('s3')\n"
        "print([socket.socket().connect_ex((store, port)) == 0 for port in (8888, 9333, 8080, 18888, 19333)])"
    )

    assert compose.python("api", code).stdout.split("\n")[:2] == ["403", str([False] * 5)]


def test_a_service_answers_while_everything_behind_it_is_away(compose, service):
    compose("stop", "--timeout", "5", "api", "worker", "postgres", "redis", "s3")
    try:
        assert score(service) == [3, 6]

        compose("restart", "gateway")
        until(lambda: score(service) == [3, 6], "a gateway that was restarted knows its routes", wait_s=30)

        compose("restart", "supervisor")
        until(lambda: score(service) == [3, 6], "a node that was restarted brings its replicas back", wait_s=60)
    finally:
        compose("start", "postgres", "redis", "s3")
        compose("start", "api", "worker")
    until(lambda: compose.health("api") == "healthy", "the API is back", wait_s=60)


def test_nothing_is_lost_when_all_containers_are_made_anew(compose, service):
    compose("down", "--timeout", "20")

    compose("up", "--detach", "--no-build", wait_s=400)

    until(lambda: score(service) == [3, 6], "the service is back", wait_s=60)
