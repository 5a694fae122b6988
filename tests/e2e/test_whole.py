"""The whole of Keelway under `keelway up`."""

import json
import urllib.request

import pytest

from keelway import Client
from keelway_standalone.doctor import examine
from tests.support.objects import remove, write
from tests.support.stack import until

OWN = ["api", "worker", "supervisor"]
NAMES = {"postgres", "redis", "s3", "gateway", *OWN}


@pytest.fixture
def client(stack):
    with Client(stack.url, stack.admin_token) as client:
        yield client


def test_everything_runs_and_statusz_shows_it(stack, client):
    shown = client.request("GET", "/statusz").json()

    assert set(json.dumps(shown["processes"]).replace('"', " ").split()) >= NAMES
    assert set(shown["dependencies"].values()) == {"ok"}


def test_up_made_itself_the_current_context_of_the_command_line(stack):
    kept = json.loads((stack.data_dir / "config/keelway/credentials.json").read_text())

    current = kept["contexts"][kept["current"]]
    assert (current["url"], current["token"]) == (stack.url, stack.admin_token)


@pytest.mark.parametrize("name", OWN)
def test_a_killed_process_of_ours_is_started_again(stack, client, name):
    killed = stack.kill(name)

    stack.wait_restarted(name, killed)
    assert stack.child(name)["last_exit"] == "killed by SIGKILL"
    assert client.whoami().name == "admin"
    until(lambda: [node.state for node in client.nodes.list()] == ["ready"], "the node is ready", 20)


def test_the_api_answers_before_the_object_store_does(stack, client):
    killed = stack.kill("s3")

    with urllib.request.urlopen(f"{stack.url}/livez") as answer:
        assert answer.status == 200
    assert client.whoami().name == "admin"
    stack.wait_restarted("s3", killed)


def test_doctor_finds_nothing_wrong_and_names_a_blob_that_is_gone(stack, client, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"doctored")  # bytes that no other model has
    version = client.models.register("doctored", tmp_path / "weights.bin")
    sha256 = client.models.get("doctored", version.version).files[0].sha256
    assert examine(stack.layout).wrong == []

    key = remove(stack.s3, sha256)
    gone = examine(stack.layout).wrong
    write(stack.s3, key, b"docto")
    cut = examine(stack.layout).wrong
    write(stack.s3, key, b"doctored")

    file = f"content: default/doctored:1 weights.bin (sha256 {sha256})"
    assert gone == [f"{file} is not in the store"]
    assert cut == [f"{file} is cut short in the store"]
    assert examine(stack.layout).wrong == []
