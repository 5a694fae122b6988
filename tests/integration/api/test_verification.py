"""Verification: whether the stored bytes of a version are still those that were registered."""

import pytest

from keelway import Client
from tests.support.objects import keys_of, remove, write
from tests.support.problems import assert_problem
from tests.support.registry import open_version, register, sha256, unique_bytes


@pytest.fixture
def files():
    same = unique_bytes()
    return {"m/a.bin": unique_bytes(), "m/b.bin": same, "m/copy.bin": same}


def verify(api, w, **params):
    return api.admin.post(f"{w}/models/m/versions/1/verify", params=params)


def test_a_version_that_is_whole_is_told_so(api, w, files):
    made = register(api.admin, w, "m", files)

    found = verify(api, w).json()

    assert found["digest"] == made["digest"]
    assert (found["checked_files"], found["checked_bytes"], found["remaining_files"]) == (3, made["size_bytes"], 0)
    assert (found["damaged"], found["next_after"]) == ([], None)


def test_every_file_of_changed_bytes_is_named_and_the_version_is_corrupt_until_they_are_right(api, w, files):
    register(api.admin, w, "m", files)
    keys = keys_of(api.stack.s3, sha256(files["m/b.bin"]))
    for key in keys:
        write(api.stack.s3, key, b"y" * len(files["m/b.bin"]))
    remove(api.stack.s3, sha256(files["m/a.bin"]))

    found = verify(api, w).json()

    damaged = {(file["path"], file["damage"]) for file in found["damaged"]}
    assert damaged == {("m/a.bin", "missing"), ("m/b.bin", "changed"), ("m/copy.bin", "changed")}
    assert api.admin.get(f"{w}/models/m/versions/1").json()["state"] == "corrupt"

    for key in keys:
        write(api.stack.s3, key, files["m/b.bin"])
    still = verify(api, w).json()
    assert [file["path"] for file in still["damaged"]] == ["m/a.bin"]


def test_it_goes_on_behind_a_path(api, w, files):
    register(api.admin, w, "m", files)

    assert verify(api, w, after="m/a.bin").json()["checked_files"] == 2
    assert verify(api, w, after="m/copy.bin").json()["checked_files"] == 0


def test_the_sdk_goes_on_until_all_is_read(api, workspace, w, files):
    register(api.admin, w, "m", files)
    seen = []

    with Client(api.url, api.token("admin"), workspace=workspace) as client:
        found = client.models.verify("m:1", progress=lambda *step: seen.append(step))

    assert (found.checked_files, found.damaged, found.remaining_files) == (3, [], 0)
    assert seen[-1] == ("verify", 48, 48)


def test_a_manifest_that_was_changed_behind_our_back_is_found(api, w, files):
    register(api.admin, w, "m", files)
    api.sql(
        "UPDATE manifest_files SET path = 'm/c.bin' WHERE path = 'm/a.bin' AND sha256 = %s", sha256(files["m/a.bin"])
    )

    assert_problem(verify(api, w), "corrupt-bytes")
    assert_problem(api.admin.get(f"{w}/models/m/versions/1/archive"), "corrupt-bytes")


def test_a_file_that_was_taken_out_of_a_manifest_is_missed(api, w, files):
    register(api.admin, w, "m", files)
    api.sql("DELETE FROM manifest_files WHERE sha256 = %s", sha256(files["m/a.bin"]))

    assert_problem(verify(api, w), "corrupt-bytes")
    assert_problem(api.admin.get(f"{w}/models/m/versions/1/archive"), "corrupt-bytes")


def test_bytes_that_the_database_forgot_are_missing(api, w, files):
    register(api.admin, w, "m", files)
    api.sql("DELETE FROM blobs WHERE sha256 = %s", sha256(files["m/b.bin"]))

    for what in ("archive", "files/m/b.bin"):
        problem = assert_problem(api.admin.get(f"{w}/models/m/versions/1/{what}"), "corrupt-bytes")
        assert "'m/b.bin'" in problem["detail"]
    assert api.admin.get(f"{w}/models/m/versions/1/files/m/a.bin").content == files["m/a.bin"]

    found = verify(api, w).json()

    damaged = {(file["path"], file["damage"]) for file in found["damaged"]}
    assert damaged == {("m/b.bin", "missing"), ("m/copy.bin", "missing")}
    assert api.admin.get(f"{w}/models/m/versions/1").json()["state"] == "corrupt"
    register(api.admin, w, "healer", files)
    assert verify(api, w).json()["damaged"] == []
    assert api.admin.get(f"{w}/models/m/versions/1/files/m/b.bin").content == files["m/b.bin"]


def test_bytes_of_another_size_than_the_manifest_says_are_not_served(api, w, files):
    register(api.admin, w, "m", files)
    api.sql("UPDATE manifest_files SET size_bytes = 15 WHERE sha256 = %s", sha256(files["m/a.bin"]))

    for what in ("archive", "files/m/a.bin"):
        assert_problem(api.admin.get(f"{w}/models/m/versions/1/{what}"), "corrupt-bytes")
    assert_problem(verify(api, w), "corrupt-bytes")


def test_an_upload_and_what_is_not_there_cannot_be_verified(api, w, files):
    assert_problem(verify(api, w), "not-found")
    open_version(api.admin, w, "m", files)
    assert_problem(verify(api, w), "wrong-state")
