"""Environments from definitions, images, wheels and conda channels; curated ones; their locks and what differs."""

import json
from pathlib import Path

import pytest

from tests.support.conda_channel import PYTHON, make_channel
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import node, service_body, sha256, snapshot, unique_bytes
from tests.support.wheels import file_name, wheel

# As the old client writes it, but for a package that no Python has that Keelway supports.
EXAMPLE = (Path(__file__).parents[2] / "unit" / "sdk" / "environment.json").read_text()
WRITTEN = json.loads(EXAMPLE.replace("scikit-learn==0.20.3", "six==1.17.0"))
REGISTRY = {"address": "r.example:5000", "username": "me", "password": "kept-to-itself"}
TIDES = f"channels: [local]\ndependencies: [python={PYTHON}, tides]\n"


@pytest.fixture(scope="module")
def channel(api, tmp_path_factory):
    """An API that knows a channel on this disk, one where nobody answers, and one that is not there."""
    url = make_channel(tmp_path_factory.mktemp("channel"))
    away = "http://127.0.0.1:1/conda"
    api.change(KEELWAY_CONDA_CHANNELS=f"local={url} away={away} gone=file:///no/such/folder")
    api.kill_api()
    api.start_api()
    return url


@pytest.fixture(autouse=True)
def host(api):
    """A node with the python of the channel, and no other that counts."""
    api.sql("UPDATE nodes SET heartbeat_at = now() - interval '1 hour'")
    return node(api, "sources-node", pythons=(f"{PYTHON}.7",))


def register(api, w, name="env", **body):
    return api.admin.post(f"{w}/environments/{name}/versions", json=body)


def registered(api, w, name="env", **body):
    response = register(api, w, name, **body)
    assert response.status_code == 201, response.text
    return response.json()


# Definitions of the old system ------------------------------------------------------------------------------


def test_a_definition_of_the_old_system_is_locked_and_given_back(api, w):
    made = registered(api, w, definition=WRITTEN, python_version=PYTHON)

    given_back = api.admin.get(f"{w}/environments/env/versions/1/definition").json()
    assert made["requirements"] == ["six==1.17.0"]
    assert given_back == {**WRITTEN, "name": "env", "version": "1"}


def test_the_same_definition_is_the_same_version_whatever_name_it_had(api, w):
    first = register(api, w, definition=WRITTEN, python_version=PYTHON)
    again = register(api, w, definition={**WRITTEN, "name": "x", "version": "9"}, python_version=PYTHON)
    other = register(api, w, definition={**WRITTEN, "inferencingStackVersion": "latest"}, python_version=PYTHON)

    assert [each.status_code for each in (first, again, other)] == [201, 200, 201]
    assert other.json()["version"] == 2


def test_a_python_of_the_old_examples_is_refused_with_what_is_on_offer(api, w):
    problem = assert_problem(register(api, w, definition=WRITTEN), "python-not-available")

    assert problem["wanted"] == "==3.6.*"
    assert problem["available"] == [f"{PYTHON}.7"]
    assert "--python" in problem["detail"]


def test_an_environment_of_parts_is_given_back_as_a_definition(api, w):
    conda = f"channels: [x]\ndependencies:\n- python={PYTHON}\n- pip: [six==1.17.0]\nvariables: {{A: b}}\n"
    registered(api, w, conda_file=conda, base_image="python:3.11", environment_variables={"C": "{{7*7}}"})

    given_back = api.admin.get(f"{w}/environments/env/versions/1/definition").json()
    again = registered(api, w, "copy", definition=given_back)

    assert given_back["docker"]["baseImage"] == "python:3.11"
    assert given_back["environmentVariables"] == {"A": "b", "C": "{{7*7}}"}
    assert given_back["python"]["condaDependencies"]["dependencies"] == [f"python={PYTHON}", {"pip": ["six==1.17.0"]}]
    locks = [api.admin.get(f"{w}/environments/{name}/versions/1/lock").json()["digest"] for name in ("env", "copy")]
    assert locks[0] == locks[1]
    assert again["environment_variables"] == {"A": "b", "C": "{{7*7}}"}


def test_pip_requirements_are_given_back_as_a_definition(api, w):
    registered(api, w, pip_requirements="# mine\nsix==1.17.0\n")

    given_back = api.admin.get(f"{w}/environments/env/versions/1/definition").json()

    assert registered(api, w, "copy", definition=given_back)["requirements"] == ["six==1.17.0"]


# Images -----------------------------------------------------------------------------------------------------


def test_a_registrys_password_is_kept_and_never_shown(api, w):
    logged = api.log.stat().st_size
    definition = {"docker": {"baseImage": "r.example:5000/x:1", "baseImageRegistry": REGISTRY}}
    parts = {"pip_requirements": "", "base_image": "r.example:5000/x:1", "base_image_registry": REGISTRY}

    answers = [register(api, w, "json", definition=definition), register(api, w, "parts", **parts)]
    for name in ("json", "parts"):
        for path in ("", "/lock", "/definition"):
            answers.append(api.admin.get(f"{w}/environments/{name}/versions/1{path}"))
    answers += [api.admin.get(f"{w}/environments"), api.admin.get(f"{w}/audit")]

    assert all(answer.status_code < 300 for answer in answers), [answer.text for answer in answers]
    assert not [answer.text for answer in answers if REGISTRY["password"] in answer.text]
    assert REGISTRY["password"] not in api.log.read_bytes()[logged:].decode()
    shown = {"address": "r.example:5000", "username": "me"}
    assert answers[1].json()["base_image_registry"] == shown
    assert answers[4].json()["docker"]["baseImageRegistry"]["username"] == "me"
    kept = api.sql("SELECT DISTINCT password FROM environment_registries WHERE address = 'r.example:5000'")
    assert kept == [{"password": REGISTRY["password"]}]


def test_a_new_password_is_no_new_version(api, w):
    parts = {
        "pip_requirements": "",
        "base_image": "n.example/x",
        "base_image_registry": REGISTRY | {"address": "n.example"},
    }
    registered(api, w, **parts)

    again = register(api, w, **parts | {"base_image_registry": parts["base_image_registry"] | {"password": "newer"}})

    assert again.status_code == 200
    query = "SELECT password FROM environment_registries WHERE address = 'n.example'"
    assert api.sql(query) == [{"password": "newer"}]


def test_a_refused_password_is_not_in_the_answer(api, w):
    wrong = {**REGISTRY, "password": "kept\nto itself"}

    response = register(api, w, pip_requirements="", base_image="x", base_image_registry=wrong)

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.base_image_registry.password"]
    assert "itself" not in response.text


def test_a_build_context_is_a_snapshot_with_a_dockerfile(api, w):
    source = snapshot(api.admin, w, {"Dockerfile": b"FROM x", "sub/Dockerfile": b"FROM y"})
    context = {"snapshot": source["digest"], "dockerfile": "sub/Dockerfile"}

    made = registered(api, w, pip_requirements="", build_context=context)

    assert made["build_context"] == context
    given_back = api.admin.get(f"{w}/environments/env/versions/1/definition").json()["docker"]["buildContext"]
    expected = {"locationType": "snapshot", "location": source["digest"], "dockerfilePath": "sub/Dockerfile"}
    assert given_back == expected
    wrong = register(api, w, pip_requirements="", build_context={**context, "dockerfile": "no"})
    assert paths_of(assert_problem(wrong, "invalid-request")) == ["body.build_context.dockerfile"]
    missing = register(api, w, pip_requirements="", build_context={"snapshot": "a" * 64})
    assert_problem(missing, "not-found")


def test_a_build_context_with_data_in_it_is_refused(api, w):
    data = unique_bytes()
    source = snapshot(api.admin, w, {"Dockerfile": b"FROM x", "data": data})
    # As if five gigabytes had come.
    api.sql(
        "UPDATE manifests SET size_bytes = 5368709120 "
        "WHERE id = (SELECT manifest_id FROM manifest_files WHERE sha256 = %s)",
        sha256(data),
    )

    response = register(api, w, pip_requirements="", build_context={"snapshot": source["digest"]})

    problem = assert_problem(response, "invalid-request")
    assert paths_of(problem) == ["body.build_context.snapshot"]
    assert "5,368,709,120" in problem["errors"][0]["message"]


def test_a_snapshot_of_another_workspace_is_not_found(api, w):
    other = f"/v1/workspaces/{api.workspace()}"
    digest = snapshot(api.admin, other, {"Dockerfile": b"FROM x"})["digest"]

    assert_problem(register(api, w, pip_requirements="", build_context={"snapshot": digest}), "not-found")
    assert_problem(register(api, w, wheels=digest), "not-found")


def test_the_images_own_python_is_not_locked_and_runs_in_its_image_only(api, workspace, w):
    api.sql("UPDATE nodes SET heartbeat_at = now() - interval '1 hour'")  # it needs none

    made = registered(api, w, user_managed_dependencies=True, base_image="python:3.6")

    assert (made["python_version"], made["platform"], made["user_managed_dependencies"]) == ("", None, True)
    assert api.admin.get(f"{w}/environments/env/versions/1/lock").json()["packages"] == []
    assert_problem(api.admin.post(f"{w}/environments/env/versions/1/build"), "needs-image")
    deployment = api.admin.post(f"{w}/services", json=service_body(api, workspace))
    assert assert_problem(deployment, "needs-image")["environment"] == "env:1"
    assert api.admin.get(f"{w}/services").json()["items"] == []


# Private wheels ---------------------------------------------------------------------------------------------


def test_private_wheels_are_locked_with_what_they_need(api, w):
    data = wheel("acme", "1.0", "six==1.17.0")
    source = snapshot(api.admin, w, {file_name("acme"): data})

    made = registered(api, w, wheels=source["digest"])

    lock = api.admin.get(f"{w}/environments/env/versions/1/lock").json()
    assert made["wheels"] == source["digest"]
    packages = {each["name"]: each for each in lock["packages"]}
    assert packages["acme"] == {
        "name": "acme", "version": "1.0", "manager": "pip", "source": file_name("acme"), "marker": None,
    }  # fmt: skip
    assert packages["six"]["version"] == "1.17.0"
    assert "/tmp" not in lock["requirements"]
    operation = api.admin.post(f"{w}/environments/env/versions/1/build").json()["id"]
    claim = api.worker.post(f"/v1/operations/{operation}/claim", json={"owner": "o", "node": "sources-node"}).json()
    assert [file["path"] for file in claim["spec"]["environment"]["wheels"]] == [file_name("acme")]


@pytest.mark.parametrize(
    "files",
    [
        *({"readme.txt": b"x"}, {f"sub/{file_name('acme')}": wheel("acme")}, {"acme.whl": b"x"}),
        *({"a-1.0-py3-none-any $(touch x).whl": b"x"}, {"a-1.0-py3-none-${HOME}.whl": b"x"}),
        {"acme-1.0-py3-none-any.whl": b"x", "Acme-2.0-py3-none-any.whl": b"y"},
    ],
)
def test_a_snapshot_with_anything_but_wheels_is_refused(api, w, files):
    digest = snapshot(api.admin, w, files)["digest"]

    assert paths_of(assert_problem(register(api, w, wheels=digest), "invalid-request")) == ["body.wheels"]


@pytest.mark.parametrize(
    "data",
    [
        *(b"no zip", wheel("other"), wheel("acme", text="x" * 2**21)),
        *(wheel("acme", "1.0", f"six @ {url}") for url in ("file:///etc/passwd", "https://evil.example/x.whl")),
        wheel("acme", "1.0", "six; os.system('x')"),
    ],
)
def test_a_wheel_that_cannot_be_read_or_leads_elsewhere_is_refused(api, w, data):
    digest = snapshot(api.admin, w, {file_name("acme"): data})["digest"]

    assert assert_problem(register(api, w, wheels=digest), "environment-invalid")["line"] == file_name("acme")


# Conda packages ---------------------------------------------------------------------------------------------


def test_conda_packages_are_solved_from_the_declared_channel(api, w, channel):
    made = registered(api, w, conda_file=TIDES)

    lock = api.admin.get(f"{w}/environments/env/versions/1/lock").json()
    assert (made["conda_packages"], made["channels"], made["python_version"]) == (["tides"], ["local"], PYTHON)
    found = {each["name"]: each for each in lock["packages"] if each["manager"] == "conda"}
    assert sorted(found) == ["moon", "python", "tides"]
    assert found["tides"]["source"].startswith(channel)
    assert "httptools==" in lock["requirements"]
    assert lock["digest"] == made["lock_digest"]
    assert register(api, w, conda_file=TIDES).status_code == 200


def test_a_channel_may_be_named_with_the_package(api, w, channel):
    made = registered(api, w, conda_file=f"dependencies: [python={PYTHON}, 'local::tides=1.0']")

    packages = api.admin.get(f"{w}/environments/env/versions/1/lock").json()["packages"]
    assert made["channels"] == ["local"]
    assert {each["name"]: each["version"] for each in packages}["tides"] == "1.0"


@pytest.mark.parametrize(
    ("line", "word"), [("stuck", "no-such-thing"), ("nobodys=1.2", "nobodys"), ("tides>9", "tides")]
)
def test_a_conda_package_that_cannot_be_had_is_named(api, w, channel, line, word):
    response = register(api, w, conda_file=f"channels: [local]\ndependencies: [python={PYTHON}, moon, '{line}']")

    problem = assert_problem(response, "environment-unsolvable")
    assert problem["lines"] == [line]
    assert word in problem["detail"]
    assert "under 'pip:'" in problem["detail"]


def test_a_constraint_that_the_solver_does_not_understand_is_refused_by_its_line(api, w, channel):
    response = register(api, w, conda_file="channels: [local]\ndependencies: ['tides=>1']")

    assert assert_problem(response, "environment-invalid")["line"] == "tides=>1"


def test_a_python_that_no_channel_has_is_refused_with_those_there_are(api, w, channel):
    old = TIDES.replace(f"python={PYTHON}", "python=3.6.2")

    problem = assert_problem(register(api, w, conda_file=old), "python-not-available")

    assert problem["available"] == [PYTHON]
    assert registered(api, w, conda_file=old, python_version=PYTHON)["python_version"] == PYTHON


def test_a_channel_that_does_not_answer_is_a_dependency_that_is_away(api, w, channel):
    response = register(api, w, conda_file=TIDES.replace("local", "away"))

    assert assert_problem(response, "dependency-away")["dependency"] == "conda-channel"
    assert response.headers["retry-after"]


def test_a_channel_that_is_not_there_is_refused(api, w, channel):
    assert_problem(register(api, w, conda_file=TIDES.replace("local", "gone")), "environment-invalid")


# Locks ------------------------------------------------------------------------------------------------------


def test_two_locks_are_compared(api, w):
    registered(api, w, pip_requirements="six==1.16.0\nidna==3.10")
    registered(api, w, pip_requirements="six==1.17.0\npyjokes==0.8.3")

    diff = api.admin.get(f"{w}/environments/env/versions/latest/lock/diff", params={"from": "1"}).json()

    assert (diff["from_version"], diff["to_version"]) == (1, 2)
    assert [each["name"] for each in diff["added"]] == ["pyjokes"]
    assert [each["name"] for each in diff["removed"]] == ["idna"]
    changed = {"name": "six", "manager": "pip", "from_version": "1.16.0", "to_version": "1.17.0"}
    assert diff["changed"] == [changed]
    assert_problem(api.admin.get(f"{w}/environments/env/versions/2/lock/diff?from=7"), "not-found")
    assert_problem(api.admin.get(f"{w}/environments/env/versions/2/lock/diff"), "invalid-request")


def test_what_cannot_be_solved_names_its_lines(api, w):
    problem = assert_problem(
        register(api, w, pip_requirements="idna\nsix==1.17.0\nno-such-package-of-keelway-tests>=2"),
        "environment-unsolvable",
    )

    assert problem["lines"] == ["no-such-package-of-keelway-tests>=2"]


def test_the_real_packages_of_the_old_system_are_asked_for_where_they_are_wanted(api, w):
    text = "azureml-inference-server-http==0.0.0"

    assert registered(api, w, pip_requirements=text)["requirements"] == []
    problem = assert_problem(register(api, w, pip_requirements=text, real_azureml=True), "environment-unsolvable")
    assert problem["lines"] == [text]


# Curated ----------------------------------------------------------------------------------------------------


def test_curated_environments_are_there_for_everybody(api, workspace, w):
    reader = api.as_role("reader", workspace)

    listed = {each["name"]: each["latest"] for each in reader.get(f"{w}/environments").json()["items"]}

    assert {"Keelway-Minimal", "Keelway-Sklearn"} <= listed.keys()
    assert listed["Keelway-Sklearn"]["is_curated"]
    lock = reader.get(f"{w}/environments/Keelway-Sklearn/versions/latest/lock").json()
    names = {each["name"] for each in lock["packages"]}
    assert {"scikit-learn", "numpy", "pandas", "httptools"} <= names
    assert api.admin.post(f"{w}/environments/Keelway-Minimal/versions/1/build").status_code == 202


def test_curated_environments_can_be_deployed(api, workspace, w):
    body = service_body(api, workspace)
    body["inference_config"]["environment"] = "Keelway-Minimal:latest"

    response = api.admin.post(f"{w}/services", json=body)

    assert response.status_code == 202, response.text


@pytest.mark.parametrize(
    "name",
    ["Keelway-Minimal", "Keelway", "KeelwayX", "AzureML-Tutorial", "Microsoft.x", "keelway-minimal", "KEELWAY-SKLEARN"],
)
def test_names_of_curated_environments_are_reserved(api, w, name):
    problem = assert_problem(register(api, w, name, pip_requirements=""), "name-reserved")

    assert problem["name"] == name


@pytest.mark.parametrize("name", ["keelway-env", "azureml-env", "my-Keelway"])
def test_other_names_are_free(api, w, name):
    registered(api, w, name, pip_requirements="")


def test_a_curated_environment_is_made_once_however_often_the_api_starts(api):
    api.kill_api()
    api.start_api()

    query = "SELECT name, last_version FROM environments WHERE workspace_id IS NULL ORDER BY name"
    assert api.sql(query) == [
        {"name": "Keelway-Minimal", "last_version": 1},
        {"name": "Keelway-Sklearn", "last_version": 1},
    ]
