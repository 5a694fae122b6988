"""Versions of as many files as a manifest may list."""

import json

import pytest

from keelway.contracts.files import MAX_FILES
from tests.support.problems import assert_problem
from tests.support.registry import sha256, unique_bytes

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def data():
    return unique_bytes()


def body(data, count):
    entry = {"size_bytes": len(data), "sha256": sha256(data)}
    return json.dumps({"files": [{"path": f"m/{n % 300}/file-{n:06}.bin", **entry} for n in range(count)]}).encode()


def test_a_version_of_the_most_files_is_opened_filled_read_verified_and_deleted(api, w, data):
    sent = body(data, MAX_FILES)
    url = f"{w}/models/many/versions"
    headers = {**JSON, "Idempotency-Key": sha256(data)[:32]}

    opened = api.admin.post(url, content=sent, headers=headers)
    assert opened.status_code == 201, opened.text[:500]
    assert len(opened.json()["missing"]) == MAX_FILES
    repeated = api.admin.post(url, content=sent, headers=headers)
    assert (repeated.headers["idempotency-replayed"], repeated.content) == ("true", opened.content)
    put = api.admin.put(f"/v1/blobs/{sha256(data)}", content=data)
    assert put.status_code == 204, put.text
    assert api.admin.post(f"{url}/1/commit").json()["state"] == "ready"

    assert len(api.admin.get(f"{url}/1").json()["files"]) == MAX_FILES
    verified = api.admin.post(f"{url}/1/verify").json()
    assert (verified["checked_files"], verified["damaged"]) == (MAX_FILES, [])
    assert api.admin.get(f"{url}/1/files/m/7/file-000007.bin").content == data

    assert api.admin.delete(f"{w}/models/many").status_code == 204
    assert_problem(api.admin.get(f"{url}/1"), "not-found")


def test_one_file_more_is_refused(api, w, data):
    answer = api.admin.post(f"{w}/models/many/versions", content=body(data, MAX_FILES + 1), headers=JSON)

    problem = assert_problem(answer, "invalid-request")
    assert str(MAX_FILES) in problem["detail"]
    assert_problem(api.admin.get(f"{w}/models/many"), "not-found")
