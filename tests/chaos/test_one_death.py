"""Any one process is killed between registering a model and scoring with it: the flow ends well all the same."""

import pytest

from tests.support.scripts import gated
from tests.support.stack import until


@pytest.mark.parametrize("name", ["postgres", "redis", "s3", "gateway", "api", "worker", "supervisor"])
def test_the_flow_ends_well_though_one_process_is_killed(stack, user, name, tmp_path):
    content = f"weights of {name}".encode()

    killed = stack.kill(name)
    version = user.register(f"model-{name}", content)
    handle = user.start(f"svc-{name}", gated(tmp_path / "gate"))
    stack.wait_restarted(name, killed)
    user.until_step(handle, "Loading the model")
    (tmp_path / "gate").touch()
    service = handle.wait(60)
    until(lambda: user.scores(service), "it scores")

    assert version.version == 1
    assert user.client.models.download(version.name, 1, tmp_path / "got").read_bytes() == content
    assert user.operation(handle).state == "succeeded"
    user.delete(f"svc-{name}")
