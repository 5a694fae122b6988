"""Packages as the API keeps them: asked for, made by a worker that is this test, handed out, deleted."""

from __future__ import annotations

import io
import tarfile

import pytest

from tests.support.attempt import Attempt, package_result
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import environment, node, register, snapshot, unique_bytes


@pytest.fixture
def body(api, workspace, w):
    """What asks for a package of ridge:1."""
    node(api)
    register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    environment(api, workspace)
    digest = snapshot(api.admin, w, {"score.py": b"def run(x): return x"})["digest"]
    return {
        "models": ["ridge:latest"],
        "inference_config": {"entry_script": "score.py", "snapshot": digest, "environment": "env:latest"},
        "image_name": "team/ridge",
        "image_label": "v1",
    }


@pytest.fixture
def made(api, w, body):
    """made(**changes): a package, and the attempt of its worker."""

    def make(**changes):
        response = api.admin.post(f"{w}/packages", json={**body, **changes})
        assert response.status_code == 202, response.text
        return response.json(), Attempt(api, response.json()["operation"])

    return make


FILES = {"Dockerfile": b"FROM x", "sbom.cdx.json": b'{"bomFormat":"CycloneDX"}', "azureml-app/source/score.py": b"x"}


def test_a_package_is_made_listed_and_downloaded(api, w, made):
    package, attempt = made()
    assert (package["state"], package["models"], package["environment"]) == ("creating", ["ridge:1"], "env:1")
    assert package["image"] == "team/ridge:v1"
    assert attempt.claim["spec"]["models"][0]["name"] == "ridge"
    assert [file["path"] for file in attempt.claim["spec"]["snapshot_files"]] == ["score.py"]
    path = f"{w}/packages/{package['id']}"
    assert_problem(api.admin.get(f"{path}/download"), "wrong-state")

    attempt.end(result=package_result(attempt.store(FILES)))

    shown = api.admin.get(path).json()
    assert (shown["state"], shown["image_id"], shown["archive"]["size_bytes"]) == ("ready", "sha256:1", 9)
    archive = api.admin.get(f"{path}/download")
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        assert {each.name: tar.extractfile(each).read() for each in tar} == FILES
    again = api.admin.get(f"{path}/download", headers={"If-None-Match": archive.headers["etag"]})
    assert again.status_code == 304
    assert api.admin.get(f"{path}/sbom").json() == {"bomFormat": "CycloneDX"}
    assert [one["id"] for one in api.admin.get(f"{w}/packages?model=ridge:1").json()["items"]] == [package["id"]]
    assert api.admin.get(f"{w}/packages?model=ridge:2").json()["items"] == []


def test_packages_are_listed_newest_first_a_page_at_a_time(api, w, made):
    ids = [made(image_label=f"v{number}")[0]["id"] for number in range(3)]

    first = api.admin.get(f"{w}/packages?limit=2").json()
    second = api.admin.get(f"{w}/packages?limit=2&page_token={first['next_page_token']}").json()

    assert [one["id"] for one in first["items"] + second["items"]] == ids[::-1]


def test_a_model_that_is_in_a_package_is_not_deleted(api, w, made):
    package, attempt = made()
    attempt.end(result=package_result(attempt.store(FILES)))

    problem = assert_problem(api.admin.delete(f"{w}/models/ridge/versions/1"), "in-use")
    assert problem["used_by"] == [f"packages/{package['id']}"]
    assert api.admin.delete(f"{w}/packages/{package['id']}").status_code == 204

    assert api.admin.delete(f"{w}/models/ridge/versions/1").status_code == 204


def test_a_deleted_package_leaves_no_files_and_cancels_what_makes_it(api, w, made):
    package, attempt = made()
    digest = attempt.store(FILES)
    attempt.end(result=package_result(digest))
    path = f"{w}/packages/{package['id']}"

    assert api.admin.delete(path).status_code == 204

    assert_problem(api.admin.get(path), "not-found")
    assert_problem(api.admin.delete(path), "not-found")
    assert_problem(api.admin.get(f"{w}/snapshots/{digest}"), "not-found")
    second, under_way = made(image_label="v2")
    assert api.admin.delete(f"{w}/packages/{second['id']}").status_code == 204
    assert under_way.heartbeat().json()["state"] == "cancelling"
    digest = under_way.store({**FILES, "x": unique_bytes()})
    under_way.end(result=package_result(digest))  # it was about to succeed
    assert_problem(api.admin.get(f"{w}/snapshots/{digest}"), "not-found")


def test_files_that_something_else_refers_to_outlive_the_package(api, w, made):
    package, attempt = made()
    digest = attempt.store(FILES)
    attempt.end(result=package_result(digest))
    context = {"pip_requirements": "", "build_context": {"snapshot": digest}}
    assert api.admin.post(f"{w}/environments/made-of-it/versions", json=context).status_code == 201

    assert api.admin.delete(f"{w}/packages/{package['id']}").status_code == 204

    assert api.admin.get(f"{w}/snapshots/{digest}").json()["state"] == "ready"


def test_a_package_that_failed_says_why_and_its_name_is_free(api, w, body, made):
    package, attempt = made()
    attempt.end("failed", error={"code": "disk-full", "message": "no room is left"})

    shown = api.admin.get(f"{w}/packages/{package['id']}").json()
    assert (shown["state"], shown["reason"]) == ("failed", "no room is left")
    assert api.admin.post(f"{w}/packages", json=body).status_code == 202


def test_an_image_s_name_is_one_package_s(api, w, body, made):
    made()

    problem = assert_problem(api.admin.post(f"{w}/packages", json=body), "already-exists")
    assert "team/ridge:v1" in problem["detail"]


def test_two_packages_without_a_label_in_one_second_have_two(api, w, made):
    labels = {made(image_label=None)[0]["image"].rpartition(":")[2] for _ in range(3)}

    assert len(labels) == 3
    assert all(label[:14].isdigit() for label in labels)


@pytest.mark.parametrize(
    ("changes", "problem", "field"),
    [
        ({"models": ["none:1"]}, "not-found", None),
        ({"kind": "zip"}, "invalid-request", "body.kind"),
        ({"image_name": "UPPER"}, "invalid-request", "body.image_name"),
        ({"image_name": "a//b"}, "invalid-request", "body.image_name"),
        ({"image_label": "a/b"}, "invalid-request", "body.image_label"),
        ({"image_label": "a\nRUN x"}, "invalid-request", "body.image_label"),
    ],
)
def test_bad_input_is_named_and_makes_nothing(api, w, body, changes, problem, field):
    found = assert_problem(api.admin.post(f"{w}/packages", json={**body, **changes}), problem)

    assert field is None or paths_of(found) == [field]
    assert api.admin.get(f"{w}/packages").json()["items"] == []


def test_a_script_that_is_not_there_is_named(api, w, body):
    config = {**body["inference_config"], "entry_script": "other.py"}

    problem = assert_problem(
        api.admin.post(f"{w}/packages", json={**body, "inference_config": config}), "invalid-request"
    )

    assert "it holds score.py" in problem["errors"][0]["message"]


def test_a_variable_that_no_dockerfile_can_say_is_refused(api, w, body):
    variables = {"pip_requirements": "", "environment_variables": {"TEXT": "one\ntwo"}}
    assert api.admin.post(f"{w}/environments/lines/versions", json=variables).status_code == 201
    config = {**body["inference_config"], "environment": "lines:1"}

    problem = assert_problem(
        api.admin.post(f"{w}/packages", json={**body, "inference_config": config}), "invalid-request"
    )

    assert "TEXT" in problem["errors"][0]["message"]


def test_steps_of_an_image_need_a_target_that_has_one(api, w, body):
    config = {**body["inference_config"], "extra_docker_file_steps": "RUN echo x"}
    service = {"name": "ridge-svc", "models": ["ridge:1"], "inference_config": config}

    problem = assert_problem(api.admin.post(f"{w}/services", json=service), "needs-image")
    assert "extra_docker_file_steps" in problem["detail"]
    package = api.admin.post(f"{w}/packages", json={**body, "inference_config": config}).json()
    attempt = Attempt(api, package["operation"])
    assert attempt.claim["spec"]["extra_docker_file_steps"] == "RUN echo x"


def test_where_an_image_can_be_had_is_answered(api, w, made):
    image, attempt = made()
    path = f"{w}/packages/{image['id']}/registry"
    assert_problem(api.admin.get(path), "wrong-state")
    attempt.end(result=package_result(attempt.store(FILES), pushed="r.example:5000/kw/team/ridge:v1"))

    there = api.admin.get(path).json()
    assert (there["address"], there["image"]) == ("r.example:5000", "r.example:5000/kw/team/ridge:v1")

    folder, attempt = made(kind="dockerfile", image_label="v2")
    attempt.end(result=package_result(attempt.store({**FILES, "x": unique_bytes()})))
    there = api.admin.get(f"{w}/packages/{folder['id']}/registry").json()
    assert (there["address"], there["image"]) == ("r.example", "r.example/python:3.11-slim")


def test_packages_are_their_workspace_s(api, w, made):
    package, attempt = made()
    attempt.end(result=package_result(attempt.store(FILES)))
    other = api.workspace()

    for path in ("", "/download", "/sbom", "/registry"):
        assert_problem(api.admin.get(f"/v1/workspaces/{other}/packages/{package['id']}{path}"), "not-found")
    assert_problem(api.admin.delete(f"/v1/workspaces/{other}/packages/{package['id']}"), "not-found")
    assert api.admin.get(f"{w}/packages/{package['id']}").json()["state"] == "ready"
