"""The Environment JSON of the old system: read as it is written there, given back with the same meaning."""

import json
import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from keelway.contracts.environment_json import EnvironmentDefinition
from keelway.contracts.environments import EnvironmentVersionCreate, lock_digest

WRITTEN = json.loads((Path(__file__).parent / "environment.json").read_text())
PARTS = {"pip_requirements": ""}
FROM = "FROM python:3.11"


def taken(**body):
    return EnvironmentVersionCreate.model_validate(body)


def refusal(**body):
    with pytest.raises(ValidationError) as refused:
        taken(**body)
    return str(refused.value)


def test_what_the_old_client_writes_is_given_back_as_it_was():
    assert EnvironmentDefinition.model_validate(WRITTEN).model_dump(mode="json") == WRITTEN


def test_keys_that_are_left_out_get_the_old_clients_defaults():
    plain = {"name": "myenv", "version": "3", "environmentVariables": WRITTEN["environmentVariables"]}
    python = {"condaDependencies": WRITTEN["python"]["condaDependencies"]}
    docker = {"baseImage": WRITTEN["docker"]["baseImage"]}

    found = EnvironmentDefinition.model_validate({**plain, "python": python, "docker": docker})

    assert found.model_dump(mode="json") == WRITTEN


def test_capitals_that_the_old_client_sends_are_read():
    sent = {"Name": "e", "EnvironmentVariables": {"Aa": "b"}, "Docker": {"BaseImage": "x", "Arguments": []}}

    found = EnvironmentDefinition.model_validate(sent)

    assert (found.name, found.environment_variables, found.docker.base_image) == ("e", {"Aa": "b"}, "x")


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("docker.shmsize", "2g", "Extra inputs"),
        ("python.extra", 1, "Extra inputs"),
        ("Name", "x", "twice"),
        ("docker.baseDockerfile", FROM, "only one of"),
        ("docker.buildContext", {"location": "a" * 64}, "only one of"),
        ("docker.buildContext", {"locationType": "git", "location": "https://x"}, "snapshot"),
        ("docker.baseImageRegistry.address", "r.example", "all of address"),
        ("docker.baseImageRegistry.password", "p", "all of address"),
        ("docker.platform.os", "Windows", "pattern"),
        ("python.baseCondaEnvironment", "base", "export it"),
        ("python.condaDependenciesFile", "conda.yml", "condaDependencies"),
        ("python.condaDependencies.x", "y" * 300_000, "characters"),
    ],
)
def test_what_cannot_be_meant_is_refused(path, value, why):
    document = json.loads(json.dumps(WRITTEN))
    *way, last = path.split(".")
    section = document
    for step in way:
        section = section[step]
    section[last] = value

    assert why in refusal(definition=document)


def test_the_images_own_python_needs_an_image():
    assert "name the image" in refusal(definition={"python": {"userManagedDependencies": True}})
    assert "give the image" in refusal(user_managed_dependencies=True)
    assert "takes no packages" in refusal(user_managed_dependencies=True, base_image="x", pip_requirements="six")
    assert taken(user_managed_dependencies=True, base_image="x").conda_file is None


@pytest.mark.parametrize(
    "part",
    [
        *({"conda_file": "x"}, {"pip_requirements": "six"}, {"base_image": "x"}, {"dockerfile": FROM}),
        *({"user_managed_dependencies": True}, {"build_context": {"snapshot": "a" * 64}}),
    ],
)
def test_a_definition_says_all_by_itself(part):
    assert f"leave out {next(iter(part))}" in refusal(definition=WRITTEN, **part)
    assert taken(definition=WRITTEN, python_version="3.11", real_azureml=True, wheels="a" * 64)


@pytest.mark.parametrize(
    "images",
    [
        {"base_image": "x", "dockerfile": FROM},
        {"base_image": "x", "build_context": {"snapshot": "a" * 64}},
        {"dockerfile": FROM, "build_context": {"snapshot": "a" * 64}},
    ],
)
def test_there_is_one_image_at_most(images):
    assert "only one of" in refusal(**PARTS, **images)


@pytest.mark.parametrize("missing", ["address", "username", "password"])
def test_a_registry_needs_all_of_its_credentials(missing):
    whole = {"address": "r.example:5000", "username": "u", "password": "secret-word"}
    part = {key: value for key, value in whole.items() if key != missing}

    assert missing in refusal(**PARTS, base_image="x", base_image_registry=part)
    assert "secret-word" not in repr(taken(**PARTS, base_image="x", base_image_registry=whole))
    assert "give the image" in refusal(**PARTS, base_image_registry=whole)


GOOD_IMAGES = [
    *(
        "python",
        "python:3.11-slim",
        "localhost:5000/a/b_c",
        "mcr.microsoft.com/azureml/base:intelmpi2018.3-ubuntu16.04",
    ),
    "ghcr.io/x/y__z@sha256:" + "0" * 64,
]
HOSTILE = [
    "a\nb",
    "a\n# syntax=evil/x",
    "a && b",
    "a;b",
    "$(touch x)",
    "`touch x`",
    "${x}",
    "{{7*7}}",
    "a b",
    "a\0",
    "-x",
]
BAD_IMAGES = [*HOSTILE, "", "../x", "/etc/passwd", "file:///x", "http://h/x", "UPPER", "a:" + "b" * 129, "a@sha256:00"]


@pytest.mark.parametrize("image", GOOD_IMAGES)
def test_the_name_of_an_image_is_taken(image):
    assert taken(**PARTS, base_image=image).base_image == image


@pytest.mark.parametrize("image", [*BAD_IMAGES, "a\u202e", "\u0430"])
def test_what_is_no_name_of_an_image_is_refused(image):
    assert "base_image" in refusal(**PARTS, base_image=image)
    assert "baseImage" in refusal(definition={"docker": {"baseImage": image}})


@pytest.mark.parametrize("text", [*HOSTILE, "", "/etc", "http://h"])
def test_what_is_no_registry_is_refused(text):
    registry = {"address": text, "username": "u", "password": "p"}

    assert "address" in refusal(**PARTS, base_image="x", base_image_registry=registry)


@pytest.mark.parametrize("text", ["a\nb", "a\0", "\u202e", ""])
def test_credentials_have_no_control_characters(text):
    for name in ("username", "password"):
        registry = {"address": "r", "username": "u", "password": "p", name: text}

        assert name in refusal(**PARTS, base_image="x", base_image_registry=registry)


@pytest.mark.parametrize("path", ["/etc/passwd", "../Dockerfile", "a/../../x", "a\\b", "x\ny", "", ".", "a//b"])
def test_a_dockerfile_lies_in_its_build_context(path):
    context = {"snapshot": "a" * 64, "dockerfile": path}
    section = {"location": "a" * 64, "dockerfilePath": path}

    assert "build_context.dockerfile" in refusal(**PARTS, build_context=context)
    assert "dockerfilePath" in refusal(definition={"docker": {"buildContext": section}})


@pytest.mark.parametrize("text", [*("a; touch x", "$(x)", "a b", "a\nb", ""), "`x`"])
def test_an_interpreter_is_a_path(text):
    assert "interpreterPath" in refusal(definition={"python": {"interpreterPath": text}})


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"# syntax=docker/dockerfile:1\n{FROM}",
            f"#syntax = x\n{FROM}",
            f"# escape=`\n{FROM}",
            f"# CHECK=skip\n{FROM}",
        ),
        *("", "RUN x", "# only a comment", f"// syntax=x\n{FROM}", f"RUN x\n{FROM}", f"{FROM}\0", f"{FROM}\ud800"),
    ],
)
def test_what_is_no_dockerfile_is_refused(text):
    assert "dockerfile" in refusal(**PARTS, dockerfile=text)


def test_brackets_without_end_are_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    assert "brackets" in refusal(definition={"r": deep})
    while deep:
        deep = deep.pop()


def test_a_lock_has_one_digest_and_its_conda_part_is_in_it():
    texts = [f"a=={random.random()}" for _ in range(2)]

    assert lock_digest(texts[0]) != lock_digest(texts[1])
    assert lock_digest(texts[0], "{}") != lock_digest(texts[0])
