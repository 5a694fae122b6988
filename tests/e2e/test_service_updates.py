"""Updates of services that people call all the while: not one of their requests fails."""

from __future__ import annotations

import json
import time

import pytest

from keelway.contracts.services import DeploymentConfig
from keelway.errors import OperationFailed
from keelway.inference import InferenceSource
from tests.support.callers import Callers
from tests.support.engine import engine_missing
from tests.support.images import ensure_base

pytestmark = pytest.mark.timeout(300)

SCRIPT = """
import os, time


def init():
    global word
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "word.txt")) as file:
        word = file.read()
    if word == "bad":
        raise ValueError("a bad word")


def run(raw):
    time.sleep(0.02)
    if word == "mute":
        raise ValueError("says nothing")
    return word
"""


@pytest.fixture(scope="module", params=["process", "docker"])
def target(request, user, tmp_path_factory):
    """A target with models word:1 to word:4 of it, and the script's folder: (name of the service, folder, config)."""
    name = f"talks-{request.param}"
    more = {}
    if request.param == "docker":
        if why := engine_missing():
            pytest.skip(why)
        more = {"base_image": ensure_base()}
    folder = tmp_path_factory.mktemp(name)
    (folder / "score.py").write_text(SCRIPT)
    for word in ("one", "two", "bad", "mute"):
        (folder / "word.txt").write_text(word)
        user.client.models.register(name, folder / "word.txt", sample_input={} if word == "mute" else None)
    user.client.environments.register(name, pip_requirements=["humanize==4.12.3"], **more)
    source = InferenceSource(entry_script="score.py", source_directory=folder, environment=f"{name}:1")
    config = DeploymentConfig(compute_type=request.param)
    user.client.services.deploy(name, [f"{name}:1"], source, config).wait(240)
    yield name
    user.client.operations.wait(user.client.services.delete(name).id, 60)


def test_no_request_fails_while_a_service_is_updated_and_rolled_back(target, user):
    service = user.client.services.get(target)

    with Callers(service.scoring_uri) as callers:
        time.sleep(0.5)
        updated = user.client.services.update(target, models=[f"{target}:2"]).wait(120)
        time.sleep(0.5)
        back = user.client.services.rollback(target).wait(120)
        time.sleep(0.5)

    assert [(one.name, one.traffic) for one in updated.revisions][:2] == [("r2", 100), ("r1", 0)]
    assert (back.revisions[0].models, back.revisions[0].traffic) == ([f"{target}:1"], 100)
    assert set(callers.answers) == {"one", "two"}, callers.answers
    assert updated.scoring_uri == service.scoring_uri


@pytest.mark.parametrize(("version", "says"), [(3, "a bad word"), (4, "sample input")])
def test_a_bad_revision_takes_no_request_and_says_why(target, user, keelway, version, says):
    service = user.client.services.get(target)
    before = [one.name for one in service.revisions if one.traffic]

    with Callers(service.scoring_uri) as callers, pytest.raises(OperationFailed) as failed:
        user.client.services.update(target, models=[f"{target}:{version}"]).wait(120)

    assert says in str(failed.value)
    assert set(callers.answers) == {"one"}, callers.answers
    after = user.client.services.get(target)
    assert (after.state, [one.name for one in after.revisions if one.traffic]) == ("healthy", before)
    assert "its last update failed" in after.reason
    assert says in keelway("service", "show", target).stdout


def test_the_command_line_updates_and_rolls_back(target, user, keelway):
    updated = keelway("service", "update", target, "-m", f"{target}:2", "--tag", "why=test", wait_s=120)
    same = keelway("service", "update", target, "-m", f"{target}:2")
    nothing = keelway("service", "update", target)
    back = keelway("service", "rollback", target, wait_s=120)
    replica = user.client.services.get(target).replicas[0].name
    again = keelway("service", "restart", target, wait_s=120)

    serving = user.client.services.get(target)
    assert f"service {target} is healthy" in updated.stdout, updated.stderr
    assert "nothing of what runs is another" in same.stdout
    assert (nothing.returncode, "say what should change" in nothing.stderr) == (2, True)
    assert "serves" in back.stdout
    assert f"service {target} is healthy" in again.stdout, again.stderr
    assert replica not in {one.name for one in serving.replicas if one.state == "ready"}
    assert (serving.tags, serving.revisions[0].models) == ({"why": "test"}, [f"{target}:1"])


def test_deploying_over_a_service_updates_it(target, user, keelway, tmp_path):
    document = {"computeType": target.removeprefix("talks-")}
    (tmp_path / "deploymentconfig.json").write_text(json.dumps(document))
    (tmp_path / "score.py").write_text("def init(): pass\n\ndef run(raw): return 'written anew'\n")
    (tmp_path / "inferenceconfig.json").write_text(json.dumps({"entryScript": "score.py"}))
    words = ("model", "deploy", "-n", target, "-m", f"{target}:1", "-e", target)
    files = ("--ic", tmp_path / "inferenceconfig.json", "--dc", tmp_path / "deploymentconfig.json")

    refused = keelway(*words, *files)
    overwritten = keelway(*words, *files, "--overwrite", wait_s=120)

    assert (refused.returncode, "exists" in refused.stderr) == (1, True)
    assert overwritten.returncode == 0, overwritten.stderr
    assert user.client.services.run(target, {}) == "written anew"
