"""Environments from registration to a service that answers: conda packages, packages of one's own, curated ones."""

import json

import pytest

from keelway.errors import NeedsImage
from tests.support.conda_channel import PYTHON, make_channel
from tests.support.wheels import file_name, wheel

IMPORTS = """\
import {module}
def init(): pass
def run(data): return getattr({module}, "version", None) or {module}.__version__
"""


@pytest.fixture(scope="module")
def channel(stack) -> str:
    """The channel `local` of the stack."""
    return make_channel(stack.layout.root.parent / "channel")


@pytest.fixture
def scores(user):
    """scores(environment, module): what a service answers that imports a module; it is deleted at the end."""
    made = []

    def answer(environment, module):
        name = f"env-{module}"
        made.append(name)
        service = user.deploy(name, IMPORTS.format(module=module), environment=environment)
        return user.client.services.score(service.scoring_uri, {"data": []})

    yield answer
    for name in made:
        user.delete(name)


def built(user, environment):
    """How a build of an environment ended, and its log."""
    operation = user.client.operations.wait(user.client.environments.build(environment).id, 120)
    return operation, "".join(user.client.operations.logs(operation.id))


def test_a_service_runs_with_conda_packages(keelway, user, channel, scores, tmp_path):
    (tmp_path / "conda.yml").write_text(f"channels: [local]\ndependencies: [python={PYTHON}, 'tides=1.0']\n")

    registered = keelway("environment", "register", "with-tides", "-f", tmp_path / "conda.yml")
    operation, log = built(user, "with-tides:1")

    assert "registered with-tides:1" in registered.stdout
    assert (operation.state, [step.name for step in operation.steps]) == ("succeeded", ["Building the environment"])
    assert "\n + tides\n" in log
    assert scores("with-tides:1", "tides") == "1.0"
    again, _ = built(user, "with-tides:1")
    assert [step.name for step in again.steps] == ["Environment is cached"]
    page = keelway("environment", "lock", "with-tides").stdout
    assert "tides" in page
    assert "conda channel" in page


def test_a_lock_s_changes_are_shown(keelway, user, channel):
    for version in ("1.0", "2.0"):
        user.client.environments.register_definition(
            {
                "name": "moves",
                "python": {
                    "condaDependencies": {
                        "channels": ["local"],
                        "dependencies": [f"python={PYTHON}", f"tides={version}"],
                    }
                },
            }
        )

    page = keelway("environment", "lock", "moves", "--diff", "1", "2").stdout.split()

    assert page[page.index("tides") : page.index("tides") + 3] == ["tides", "1.0", "2.0"]
    assert "moon" in page


def test_a_service_runs_with_a_package_of_ones_own(keelway, scores, tmp_path):
    path = tmp_path / file_name("acme", "3.0")
    path.write_bytes(wheel("acme", "3.0", "six==1.17.0"))

    result = keelway("environment", "register", "with-acme", "--wheel", path)

    assert "registered with-acme:1" in result.stdout
    assert scores("with-acme:latest", "acme") == "3.0"


def test_a_service_runs_in_a_curated_environment(keelway, scores):
    listed = keelway("environment", "list").stdout

    assert "Keelway-Minimal" in listed
    assert "Keelway-Sklearn" in listed
    assert scores("Keelway-Sklearn:1", "sklearn")[0].isdigit()


def test_an_environment_file_of_the_old_system_comes_back(keelway, tmp_path):
    document = {
        "name": "old",
        "environmentVariables": {"A": "b"},
        "python": {"condaDependencies": {"dependencies": ["python=3.6.2", {"pip": ["azureml-defaults"]}]}},
        "docker": {"baseImage": "mcr.microsoft.com/azureml/base:1"},
    }
    (tmp_path / "env.json").write_text(json.dumps(document))

    refused = keelway("environment", "register", "--file", tmp_path / "env.json")
    taken = keelway("environment", "register", "--file", tmp_path / "env.json", "--python", PYTHON)
    shown = json.loads(keelway("environment", "show", "old", "--definition").stdout)

    assert refused.returncode == 1
    assert "--python" in refused.stderr
    assert "registered old:1" in taken.stdout
    assert {key: shown[key] for key in ("name", "environmentVariables")} == {
        "name": "old",
        "environmentVariables": {"A": "b"},
    }
    assert shown["python"]["condaDependencies"] == document["python"]["condaDependencies"]
    assert shown["docker"]["baseImage"] == document["docker"]["baseImage"]


def test_the_images_own_python_cannot_be_built_here(user):
    environment = user.client.environments.register("in-image", user_managed_dependencies=True, base_image="python:3.6")

    with pytest.raises(NeedsImage, match="in-image:1"):
        user.client.environments.build(environment.id)
    with pytest.raises(NeedsImage, match="target process"):
        user.start("in-image-svc", environment=environment.id)
