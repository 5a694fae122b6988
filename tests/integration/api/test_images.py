"""Images as the API keeps them: what a build's worker hands in, and who may have it."""

from __future__ import annotations

import io
import tarfile

import pytest

from tests.support.attempt import IMAGE, Attempt, image_result
from tests.support.problems import assert_problem
from tests.support.registry import manifest, node, snapshot, unique_bytes


@pytest.fixture
def attempt(api, w):
    """A worker's attempt at the build of an image."""
    node(api)
    registered = api.admin.post(
        f"{w}/environments/env/versions",
        json={"pip_requirements": "", "base_image": "python:3.11-slim", "user_managed_dependencies": False},
    )
    assert registered.status_code in {200, 201}, registered.text
    submitted = api.admin.post(f"{w}/environments/env/versions/1/build", json={"target": "docker"})
    return Attempt(api, submitted.json()["id"])


def test_an_image_that_a_worker_stored_can_be_had(api, w, attempt):
    files = {"index.json": b"{}", "blobs/sha256/1": unique_bytes(), "sbom.cdx.json": b'{"bomFormat":"CycloneDX"}'}
    assert attempt.claim["spec"]["base"]["base_image"] == "python:3.11-slim"
    digest = attempt.store(files)

    attempt.end(result=image_result(digest))

    shown = api.admin.get(f"{w}/images/{IMAGE}").json()
    assert (shown["environment"], shown["image_id"], shown["pushed"]) == ("env:1", "sha256:1", None)
    listed = api.admin.get(f"{w}/images?environment=env").json()["items"]
    assert [each["identity"] for each in listed] == [IMAGE]
    assert api.admin.get(f"{w}/images?environment=other").json()["items"] == []
    archive = api.admin.get(f"{w}/images/{IMAGE}/archive")
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        assert {each.name: tar.extractfile(each).read() for each in tar} == files
    again = api.admin.get(f"{w}/images/{IMAGE}/archive", headers={"If-None-Match": archive.headers["etag"]})
    assert again.status_code == 304
    assert api.admin.get(f"{w}/images/{IMAGE}/sbom").content == files["sbom.cdx.json"]


def test_a_worker_finds_an_image_again_and_one_that_was_built_anew_takes_its_place(api, w, attempt):
    assert_problem(api.worker.get(f"/v1/operations/{attempt.id}/images/{IMAGE}"), "not-found")
    attempt.end(result=image_result(attempt.store({"index.json": b"1"})))

    submitted = api.admin.post(f"{w}/environments/env/versions/1/build", json={"target": "docker"})
    second = Attempt(api, submitted.json()["id"])
    known = api.worker.get(f"/v1/operations/{second.id}/images/{IMAGE}").json()
    assert [file["path"] for file in known["files"]] == ["index.json"]
    second.end(result={**known["result"], "pushed": "registry.example/x:1"})

    assert [each["pushed"] for each in api.admin.get(f"{w}/images").json()["items"]] == ["registry.example/x:1"]


def test_a_deleted_image_takes_its_files_along_and_is_built_anew(api, w, attempt):
    attempt.end(result=image_result(attempt.store({"index.json": unique_bytes()})))

    assert api.admin.delete(f"{w}/images/{IMAGE}").status_code == 204

    assert_problem(api.admin.get(f"{w}/images/{IMAGE}"), "not-found")
    assert_problem(api.admin.delete(f"{w}/images/{IMAGE}"), "not-found")
    assert snapshots_of(api, w) == []
    submitted = api.admin.post(f"{w}/environments/env/versions/1/build", json={"target": "docker"})
    second = Attempt(api, submitted.json()["id"])
    assert_problem(api.worker.get(f"/v1/operations/{second.id}/images/{IMAGE}"), "not-found")
    second.end(result=image_result(second.store({"index.json": unique_bytes()})))
    assert api.admin.get(f"{w}/images/{IMAGE}").status_code == 200


def test_files_that_two_images_have_stay_with_the_other(api, w, attempt):
    digest = attempt.store({"index.json": unique_bytes()})
    attempt.end(result=image_result(digest))
    submitted = api.admin.post(f"{w}/environments/env/versions/1/build", json={"target": "docker"})
    Attempt(api, submitted.json()["id"]).end(result=image_result(digest, identity="e" * 64))

    assert api.admin.delete(f"{w}/images/{IMAGE}").status_code == 204

    assert api.admin.get(f"{w}/images/{'e' * 64}/archive").status_code == 200


def test_an_image_that_was_built_anew_leaves_nothing_of_the_one_before(api, w, attempt):
    attempt.end(result=image_result(attempt.store({"index.json": unique_bytes()})))
    submitted = api.admin.post(f"{w}/environments/env/versions/1/build", json={"target": "docker"})
    second = Attempt(api, submitted.json()["id"])

    digest = second.store({"index.json": unique_bytes()})
    second.end(result=image_result(digest))

    assert snapshots_of(api, w) == [digest]


def snapshots_of(api, w):
    """The digests of all snapshots of the workspace."""
    found = api.sql(
        "SELECT s.digest FROM snapshots s JOIN workspaces w ON w.id = s.workspace_id WHERE w.name = %s",
        w.rpartition("/")[2],
    )
    return [each["digest"] for each in found]


def test_images_are_their_workspace_s(api, w, attempt):
    attempt.end(result=image_result(attempt.store({"index.json": unique_bytes()})))

    stranger = api.as_role("reader", api.workspace())

    for path in ("", f"/{IMAGE}", f"/{IMAGE}/archive", f"/{IMAGE}/sbom"):
        assert_problem(stranger.get(f"{w}/images{path}"), "not-found")
    assert_problem(api.admin.get(f"/v1/workspaces/{api.workspace()}/images/{IMAGE}"), "not-found")


def test_only_the_current_attempt_of_a_worker_stores_files(api, attempt):
    body = {"epoch": attempt.epoch, "files": manifest({"a": b"1"})}
    path = f"/v1/operations/{attempt.id}/files"

    assert_problem(api.admin.post(path, json=body), "forbidden")
    assert_problem(api.worker.post(path, json={**body, "epoch": attempt.epoch + 1}), "stale-attempt")
    attempt.end("failed", error={"code": "x", "message": "y"})
    assert_problem(api.worker.post(path, json=body), "stale-attempt")


def test_a_worker_need_not_send_what_the_workspace_has_and_must_send_what_only_another_has(api, w, attempt):
    ours, theirs = unique_bytes(), unique_bytes()
    elsewhere = f"/v1/workspaces/{api.workspace()}"
    snapshot(api.admin, w, {"f": ours})
    snapshot(api.admin, elsewhere, {"f": theirs})

    body = {"epoch": attempt.epoch, "files": manifest({"ours": ours, "theirs": theirs})}
    missing = api.worker.post(f"/v1/operations/{attempt.id}/files", json=body).json()["missing"]

    assert [each["path"] for each in missing] == ["theirs"]


def test_a_password_of_a_registry_goes_to_the_worker_and_nowhere_else(api, w):
    node(api)
    secret = "canary-password"
    body = {
        "pip_requirements": "",
        "base_image": "registry.example/base:1",
        "base_image_registry": {"address": "registry.example", "username": "u", "password": secret},
    }
    assert api.admin.post(f"{w}/environments/private/versions", json=body).status_code == 201
    submitted = api.admin.post(f"{w}/environments/private/versions/1/build", json={"target": "docker"})

    claimed = Attempt(api, submitted.json()["id"])

    assert claimed.claim["spec"]["base"]["registry"]["password"] == secret
    assert secret not in api.admin.get(f"/v1/operations/{claimed.id}").text
    assert api.sql("SELECT 1 FROM operations WHERE spec::text LIKE %s", f"%{secret}%") == []
    assert secret not in api.log.read_text()


def test_user_managed_dependencies_are_built_with_the_runtime_beside_them(api, w):
    body = {"user_managed_dependencies": True, "base_image": "ours:1"}
    assert api.admin.post(f"{w}/environments/theirs/versions", json=body).status_code == 201

    assert_problem(api.admin.post(f"{w}/environments/theirs/versions/1/build"), "needs-image")
    submitted = api.admin.post(f"{w}/environments/theirs/versions/1/build", json={"target": "docker"})

    spec = Attempt(api, submitted.json()["id"]).claim["spec"]
    assert spec["base"]["is_user_managed"]
    assert "httptools==" in spec["environment"]["lock"]
