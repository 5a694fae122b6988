"""Environments, resolved by uv against the package index that is configured."""

import pytest

from tests.support.attempt import observe
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import node

CONDA = "dependencies:\n- python=3.11\n- pip:\n  - azureml-defaults\n  - six==1.17.0\n"


@pytest.fixture(autouse=True)
def host(api):
    """A node with one python, and no other that counts."""
    api.sql("UPDATE nodes SET heartbeat_at = now() - interval '1 hour'")
    return node(api, "environments-node", pythons=("3.11.7",))


def register(api, w, name="env", **body):
    return api.admin.post(f"{w}/environments/{name}/versions", json=body)


def test_a_conda_file_becomes_a_lock_with_hashes(api, w):
    response = register(api, w, conda_file=CONDA)

    assert response.status_code == 201, response.text
    made = response.json()
    assert (made["id"], made["python_version"], made["requirements"]) == ("env:1", "3.11", ["six==1.17.0"])
    lock = api.admin.get(f"{w}/environments/env/versions/1/lock").json()
    assert lock["digest"] == made["lock_digest"]
    assert "six==1.17.0 \\\n    --hash=sha256:" in lock["requirements"]
    assert "azureml" not in lock["requirements"]
    entries = [entry["action"] for entry in api.admin.get(f"{w}/audit").json()["items"]]
    assert entries.count("environment.register") == 1


def test_the_same_content_is_the_same_version_and_other_content_another(api, w):
    first = register(api, w, pip_requirements="six==1.17.0")
    again = register(api, w, pip_requirements="six==1.17.0")
    other = register(api, w, pip_requirements="six==1.16.0", environment_variables={"A": "b"})

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert again.json() == first.json()
    assert other.json()["id"] == "env:2"
    assert api.admin.get(f"{w}/environments/env/versions/latest").json() == other.json()
    versions = api.admin.get(f"{w}/environments/env/versions").json()["items"]
    assert [version["version"] for version in versions] == [2, 1]


def test_what_cannot_be_solved_is_told_in_the_resolver_s_words(api, w):
    response = register(api, w, pip_requirements="six==1.17.0\nsix==1.16.0")

    problem = assert_problem(response, "environment-unsolvable")
    assert "six==1.17.0" in problem["detail"]
    assert "six==1.16.0" in problem["detail"]


def test_a_package_that_does_not_exist_is_named(api, w):
    response = register(api, w, pip_requirements="no-such-package-of-keelway-tests")

    assert "no-such-package-of-keelway-tests" in assert_problem(response, "environment-unsolvable")["detail"]


def test_a_package_that_would_have_to_be_compiled_is_told_with_what_to_do(api, w):
    problem = assert_problem(register(api, w, pip_requirements="pyspark==3.5.0"), "environment-unsolvable")

    assert problem["lines"] == ["pyspark==3.5.0"]
    assert "compiler" in problem["detail"]
    assert "pip wheel" in problem["detail"]


@pytest.mark.parametrize("line", ["--index-url https://evil", "-r /etc/passwd", "six @ file:///etc/passwd", "./x"])
def test_a_line_that_is_no_plain_requirement_is_refused(api, w, line):
    assert assert_problem(register(api, w, pip_requirements=f"six\n{line}"), "environment-invalid")["line"] == line


@pytest.mark.parametrize(
    "text", ["dependencies: [", "!!python/object/apply:os.system [touch x]", "dependencies: [numpy[x]]", "[" * 5000]
)
def test_a_file_that_cannot_be_read_is_refused(api, w, text):
    assert_problem(register(api, w, conda_file=text), "environment-invalid")


def test_a_python_that_no_node_has_is_refused_with_what_there_is(api, w):
    problem = assert_problem(register(api, w, conda_file="dependencies: [python=3.6.2]"), "python-not-available")

    assert problem["wanted"] == "==3.6.*"
    assert problem["available"] == ["3.11.7"]


def test_without_a_node_nothing_can_be_resolved(api, w, host):
    api.sql("UPDATE nodes SET heartbeat_at = now() - interval '1 hour'")

    response = register(api, w, pip_requirements="six")

    assert_problem(response, "no-node")
    assert response.headers["retry-after"]
    assert observe(api, host).status_code == 204


def test_both_kinds_of_description_at_once_are_refused(api, w):
    response = register(api, w, pip_requirements="six", conda_file=CONDA)

    assert paths_of(assert_problem(response, "invalid-request")) == ["body"]


@pytest.mark.parametrize("body", [{}, {"python_version": "3.11"}, {"environment_variables": {"A": "b"}}])
def test_a_request_without_a_description_is_refused_with_those_there_are(api, w, body):
    problem = assert_problem(register(api, w, **body), "invalid-request")

    assert paths_of(problem) == ["body"]
    assert "conda_file or pip_requirements" in problem["detail"]


def test_an_environment_of_the_scoring_runtime_alone_is_asked_for_by_name(api, w):
    assert register(api, w, pip_requirements="").json()["requirements"] == []


def test_a_description_of_more_than_256_kib_is_refused(api, w):
    response = register(api, w, pip_requirements="#" * 262_145)

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.pip_requirements"]


def test_a_version_that_is_not_there_is_not_found(api, w):
    for path in ("env/versions/1", "env/versions/latest", "env/versions/x/lock", "env/versions"):
        assert_problem(api.admin.get(f"{w}/environments/{path}"), "not-found")
