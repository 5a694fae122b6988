"""Any one process is killed between registering a model and scoring with it: the flow ends well all the same."""

import pytest

from tests.chaos.conftest import SHORT
from tests.support.scripts import gated
from tests.support.stack import Stack, until
from tests.support.user import User


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    """A stack on which each process is killed once."""
    stack = Stack(tmp_path_factory.mktemp("mortal"), env=SHORT)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def someone(mortal, tmp_path_factory):
    """Somebody with the SDK, whose environment is built."""
    someone = User(mortal, tmp_path_factory.mktemp("someone"))
    with someone.client:
        someone.deploy("first")
        someone.delete("first")
        yield someone


@pytest.mark.parametrize("name", ["postgres", "redis", "s3", "gateway", "api", "worker", "supervisor"])
def test_the_flow_ends_well_though_one_process_is_killed(mortal, someone, name, tmp_path):
    content = f"weights of {name}".encode()

    killed = mortal.kill(name)
    version = someone.register(f"model-{name}", content)
    handle = someone.start(f"svc-{name}", gated(tmp_path / "gate"))
    mortal.wait_restarted(name, killed)
    someone.until_step(handle, "Loading the model")
    (tmp_path / "gate").touch()
    service = handle.wait(60)
    until(lambda: someone.scores(service), "it scores")

    assert version.version == 1
    assert someone.client.models.download(version.name, 1, tmp_path / "got").read_bytes() == content
    assert someone.operation(handle).state == "succeeded"
    someone.delete(f"svc-{name}")
