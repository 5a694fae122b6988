"""Models and versions: opened, filled, sealed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from keelway.contracts.models import Model, ModelVersion, ModelVersionUpload
from tests.support.problems import assert_problem
from tests.support.registry import manifest, open_version, register, send, unique_bytes


def test_a_version_is_opened_filled_and_sealed(api, w):
    files = {"model/weights.bin": unique_bytes(), "model/config.json": unique_bytes()}

    upload = open_version(api.admin, w, "ridge", files, description="a ridge", tags={"a": "b"}, framework="sklearn")
    send(api.admin, upload, files)
    committed = api.admin.post(f"{w}/models/ridge/versions/1/commit").json()

    assert upload["state"] == "uploading"
    assert upload["id"] == "ridge:1"
    assert [file["path"] for file in upload["missing"]] == ["model/config.json", "model/weights.bin"]
    assert committed["state"] == "ready"
    assert committed["tags"] == {"a": "b"}
    assert committed["size_bytes"] == 32
    assert "missing" not in committed


def test_commit_names_the_files_that_are_missing(api, w):
    files = {"model/a.bin": unique_bytes(), "model/b.bin": unique_bytes()}
    upload = open_version(api.admin, w, "ridge", files)
    api.admin.put(upload["missing"][0]["upload_url"], content=files["model/a.bin"])

    response = api.admin.post(f"{w}/models/ridge/versions/1/commit")

    assert assert_problem(response, "blobs-missing")["paths"] == ["model/b.bin"]
    assert api.admin.get(f"{w}/models/ridge/versions/1").json()["state"] == "uploading"


def test_committing_twice_is_one_commit(api, w):
    version = register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    again = api.admin.post(f"{w}/models/ridge/versions/1/commit")

    assert again.status_code == 200
    assert again.json() == version
    entries = api.admin.get(f"{w}/audit").json()["items"]
    assert [entry["action"] for entry in entries].count("model.version.commit") == 1


def test_what_was_received_before_a_death_is_not_asked_for_again(api, w):
    files = {"m/a.bin": unique_bytes(), "m/b.bin": unique_bytes()}
    first = open_version(api.admin, w, "ridge", files)
    api.admin.put(first["missing"][0]["upload_url"], content=files["m/a.bin"])

    second = open_version(api.admin, w, "ridge", files)

    assert [file["path"] for file in second["missing"]] == ["m/b.bin"]


def test_the_same_bytes_under_two_paths_are_sent_once(api, w):
    data = unique_bytes()
    files = {"m/a.bin": data, "m/b.bin": data}
    upload = open_version(api.admin, w, "ridge", files)

    api.admin.put(upload["missing"][0]["upload_url"], content=data)

    assert api.admin.post(f"{w}/models/ridge/versions/1/commit").status_code == 200


def test_an_open_version_is_not_latest_and_its_files_cannot_be_read(api, w):
    open_version(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    assert_problem(api.admin.get(f"{w}/models/ridge/versions/latest"), "not-found")
    assert_problem(api.admin.get(f"{w}/models/ridge/versions/1/files/m.pkl"), "wrong-state")
    assert_problem(api.admin.get(f"{w}/models/ridge/versions/1/archive"), "wrong-state")


def test_latest_is_the_highest_ready_version(api, w):
    for _ in range(2):
        register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    open_version(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    assert api.admin.get(f"{w}/models/ridge/versions/latest").json()["version"] == 2
    assert api.admin.get(f"{w}/models").json()["items"][0]["latest"]["version"] == 2


def test_twenty_registrations_at_once_get_twenty_numbers(api, w):
    body = {"files": manifest({"m.pkl": unique_bytes()})}

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: api.admin.post(f"{w}/models/ridge/versions", json=body), range(20)))

    assert [answer.status_code for answer in answers] == [201] * 20
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 21))


def test_a_framework_version_needs_a_framework(api, w):
    body = {"files": manifest({"m.pkl": b"x"}), "framework_version": "1.0"}

    problem = assert_problem(api.admin.post(f"{w}/models/ridge/versions", json=body), "invalid-request")

    assert "needs a framework" in problem["detail"]


@pytest.mark.parametrize("version", ["0", "2", "99999999999", "-1", "1.0", "x", "LATEST", "١"])
def test_a_version_that_is_not_there_is_not_found(api, w, version):
    register(api.admin, w, "ridge", {"m.pkl": b"x"})

    assert_problem(api.admin.get(f"{w}/models/ridge/versions/{version}"), "not-found")


@pytest.mark.parametrize("name", ["-a", ".a", "_a", "a b", "a:b", "a" * 256, "é", "a\n"])
def test_a_bad_name_is_refused(api, w, name):
    path = f"{w}/models/{name.replace(' ', '%20').replace(chr(10), '%0A')}/versions"

    assert_problem(api.admin.post(path, json={"files": manifest({"m.pkl": b"x"})}), "invalid-request")


def test_a_name_of_255_characters_is_accepted(api, w):
    register(api.admin, w, "a" * 255, {"m.pkl": b"x"})


def test_a_version_carries_its_etag_as_a_header(api, w):
    version = register(api.admin, w, "ridge", {"m.pkl": b"x"})

    response = api.admin.get(f"{w}/models/ridge/versions/1")

    assert response.headers["etag"] == version["etag"]


def test_a_model_is_shown_with_its_latest_ready_version(api, w):
    register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    open_version(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    found = api.admin.get(f"{w}/models/ridge").json()

    assert (found["name"], found["latest"]["id"]) == ("ridge", "ridge:2")
    assert found == api.admin.get(f"{w}/models").json()["items"][0]


def test_a_model_without_a_ready_version_is_shown(api, w):
    open_version(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    assert api.admin.get(f"{w}/models/ridge").json()["latest"] is None


def test_a_model_that_is_not_there_is_named(api, w):
    problem = assert_problem(api.admin.get(f"{w}/models/ridge"), "not-found")

    assert (problem["kind"], problem["name"]) == ("model", "ridge")


@pytest.mark.parametrize("state", ["uploading", "ready"])
def test_what_postgres_writes_is_what_the_contract_says(api, w, state):
    files = {"a/m.pkl": unique_bytes(), 'a/b "quoted" \u00e9.txt': unique_bytes()}
    about = {
        "description": "line\nbreak \\ \u2028 \U0001f600",
        "tags": {"k": 'v"'},
        "framework": "onnx",
        "resource_requirements": {"cpu": 0.5, "memory_gb": 2.0, "gpu": 1},
        "datasets": [{"scenario": "training", "id": "d:1"}],
        "sample_input": {"data": [[1, 2.5, None, True]]},
        "sample_output": [1.5, -2],
    }
    made = open_version(api.admin, w, "whole", files, **about)
    if state == "ready":
        send(api.admin, made, files)
        assert api.admin.post(f"{w}/models/whole/versions/1/commit").status_code == 200
        assert api.admin.put(f"{w}/models/whole/aliases/champion", json={"version": 1}).status_code == 200

    shown = api.admin.get(f"{w}/models/whole/versions/1").json()
    listed = api.admin.get(f"{w}/model-versions", params={"name": "whole"}).json()["items"][0]
    model = api.admin.get(f"{w}/models/whole").json()

    for found, contract in ((shown, ModelVersionUpload), (listed, ModelVersion), (model, Model)):
        assert set(found) == set(contract.model_fields)
        assert contract.model_validate(found).model_dump(mode="json") == found
    assert {key: shown[key] for key in about} == about
    assert len(shown["missing"]) == (2 if state == "uploading" else 0)
