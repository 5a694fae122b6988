"""Bytes on their way in: verified, expected, never a shortcut."""

import time

import pytest

from tests.support.objects import remove
from tests.support.problems import assert_problem
from tests.support.registry import manifest, open_version, register, sha256, unique_bytes


def chunked(data: bytes):
    yield data


@pytest.mark.parametrize(
    "body",
    [b"wrong bytes here", b"short", b"longer than was announced by far", b""],
    ids=["other", "short", "long", "empty"],
)
@pytest.mark.parametrize("shape", [bytes, chunked])
def test_a_body_that_is_not_what_was_announced_is_refused_and_not_stored(api, w, body, shape):
    data = unique_bytes()
    upload = open_version(api.admin, w, "ridge", {"m.pkl": data})

    response = api.admin.put(upload["missing"][0]["upload_url"], content=shape(body))

    assert_problem(response, "digest-mismatch")
    assert api.worker.get(f"/v1/blobs/{sha256(data)}").status_code == 404
    problem = assert_problem(api.admin.post(f"{w}/models/ridge/versions/1/commit"), "blobs-missing")
    assert problem["paths"] == ["m.pkl"]


def test_a_refused_body_leaves_the_earlier_good_object(api, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})
    open_version(api.admin, w, "ridge", {"m.pkl": data})

    assert_problem(api.admin.put(f"/v1/blobs/{sha256(data)}", content=b"x" * len(data)), "digest-mismatch")

    assert api.admin.get(f"{w}/models/ridge/versions/1/files/m.pkl").content == data


@pytest.mark.parametrize("size_bytes", [0, 5, 17])
def test_a_manifest_that_lies_about_a_size_cannot_harm_the_object_of_that_digest(api, w, size_bytes):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})
    lie = {"path": "m.pkl", "size_bytes": size_bytes, "sha256": sha256(data)}
    assert api.admin.post(f"{w}/models/liar/versions", json={"files": [lie]}).status_code == 201

    response = api.admin.put(f"/v1/blobs/{sha256(data)}", content=b"x" * size_bytes)

    assert_problem(response, "digest-mismatch")
    assert api.admin.get(f"{w}/models/ridge/versions/1/files/m.pkl").content == data


def test_a_manifest_that_lies_about_a_size_cannot_stop_an_honest_upload(api, w):
    data = unique_bytes()
    for size_bytes in (3, len(data), 900):
        file = {"path": "m.pkl", "size_bytes": size_bytes, "sha256": sha256(data)}
        assert api.admin.post(f"{w}/models/m{size_bytes}/versions", json={"files": [file]}).status_code == 201

    assert api.admin.put(f"/v1/blobs/{sha256(data)}", content=data).status_code == 204

    assert api.admin.post(f"{w}/models/m{len(data)}/versions/1/commit").status_code == 200


def test_an_empty_file_is_stored(api, w):
    register(api.admin, w, "ridge", {"m/empty": b"", "m/full": b"x"})

    response = api.admin.get(f"{w}/models/ridge/versions/1/files/m/empty")

    assert (response.status_code, response.content) == (200, b"")


def test_bytes_that_no_open_upload_lists_are_not_taken(api, w):
    data = unique_bytes()

    assert_problem(api.admin.put(f"/v1/blobs/{sha256(data)}", content=data), "blob-not-expected")


def test_bytes_are_not_taken_any_more_after_the_commit(api, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})

    assert_problem(api.admin.put(f"/v1/blobs/{sha256(data)}", content=data), "blob-not-expected")


def test_bytes_are_not_taken_from_one_who_may_not_write_to_the_upload_s_workspace(api, workspace, w):
    data = unique_bytes()
    open_version(api.admin, w, "ridge", {"m.pkl": data})
    strangers = [
        api.as_role("admin", api.workspace()),
        api.as_role("reader", workspace),
        api.as_role("gateway"),
        api.worker,
    ]

    for http in strangers:
        assert_problem(http.put(f"/v1/blobs/{sha256(data)}", content=data), "blob-not-expected")


def test_a_digest_that_only_others_hold_is_answered_like_one_that_nobody_holds(api, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})
    other = api.workspace()
    http = api.as_role("contributor", other)
    path = f"/v1/workspaces/{other}/models/ridge/versions"

    known = http.post(path, json={"files": manifest({"m.pkl": data})}).json()
    unknown = http.post(path, json={"files": manifest({"m.pkl": unique_bytes()})}).json()

    assert known["missing"][0]["path"] == unknown["missing"][0]["path"] == "m.pkl"
    assert_problem(http.post(f"{path}/{known['version']}/commit"), "blobs-missing")
    assert_problem(http.get(f"{path}/{known['version']}/files/m.pkl"), "wrong-state")
    assert_problem(http.get(f"/v1/blobs/{sha256(data)}"), "forbidden")


def test_bytes_that_the_caller_may_read_are_not_asked_for_again(api, workspace, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})

    again = open_version(api.as_role("contributor", workspace), w, "other", {"n.pkl": data})

    assert again["missing"] == []


def test_bytes_that_the_store_lost_are_asked_for_again(api, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})
    digest = sha256(data)
    remove(api.stack.s3, digest)
    open_version(api.admin, w, "ridge", {"m.pkl": data})

    problem = assert_problem(api.admin.post(f"{w}/models/ridge/versions/2/commit"), "blobs-missing")

    assert problem["paths"] == ["m.pkl"]
    assert api.admin.put(f"/v1/blobs/{digest}", content=data).status_code == 204
    assert api.admin.post(f"{w}/models/ridge/versions/2/commit").status_code == 200


@pytest.mark.parametrize("digest", ["0" * 63, "0" * 65, "A" * 64, "g" * 64, "../" * 20])
def test_what_is_no_digest_is_refused(api, w, digest):
    assert api.admin.put(f"/v1/blobs/{digest}", content=b"x").status_code in {404, 422}


def test_a_worker_reads_any_blob(api, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})

    response = api.worker.get(f"/v1/blobs/{sha256(data)}")

    assert response.content == data
    assert response.headers["etag"] == f'"{sha256(data)}"'


def test_a_file_of_40_mib_goes_through_in_flat_memory(api, w):
    data = bytes(range(256)) * (40 * 2**20 // 256) + unique_bytes()
    open_version(api.admin, w, "big", {"m.bin": data})
    api.admin.get("/v1/whoami")
    before, highest = api.rss_bytes, 0

    def body():
        nonlocal highest
        for start in range(0, len(data), 2**20):
            highest = max(highest, api.rss_bytes)
            yield data[start : start + 2**20]

    headers = {"Content-Length": str(len(data))}
    assert api.admin.put(f"/v1/blobs/{sha256(data)}", content=body(), headers=headers).status_code == 204
    assert api.admin.post(f"{w}/models/big/versions/1/commit").status_code == 200
    received = bytearray()
    with api.admin.stream("GET", f"{w}/models/big/versions/1/files/m.bin") as response:
        for chunk in response.iter_bytes(2**20):
            highest = max(highest, api.rss_bytes)
            received += chunk

    assert received == data
    assert highest - before < 64 * 2**20


def test_an_upload_that_breaks_off_stores_nothing_and_is_no_error_of_ours(api, w):
    data = unique_bytes() * 100_000
    open_version(api.admin, w, "ridge", {"m.pkl": data})
    since = api.log.stat().st_size

    def broken():
        yield data[: 2**20]
        raise InterruptedError

    with pytest.raises(InterruptedError):
        api.admin.put(f"/v1/blobs/{sha256(data)}", content=broken())

    deadline = time.monotonic() + 10
    while not [line for line in api.log_lines(since=since) if line.get("path") == f"/v1/blobs/{sha256(data)}"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "Traceback" not in api.log.read_bytes()[since:].decode()
    assert api.worker.get(f"/v1/blobs/{sha256(data)}").status_code == 404


def test_knowing_a_digest_does_not_give_bytes_that_somebody_sends_to_another_workspace(api, workspace, w):
    """Whoever sends them may write to both; who opened the upload in the other knows only the digest."""
    data = unique_bytes()
    curious = api.as_role("contributor", workspace)
    open_version(curious, w, "curious", {"m.pkl": data})
    elsewhere = f"/v1/workspaces/{api.workspace()}"

    register(api.admin, elsewhere, "secret", {"m.pkl": data})

    assert_problem(curious.post(f"{w}/models/curious/versions/1/commit"), "blobs-missing")
    assert_problem(curious.get(f"{w}/models/curious/versions/1/files/m.pkl"), "wrong-state")


def test_bytes_that_a_colleague_sends_to_the_same_workspace_need_not_be_sent_again(api, workspace, w):
    data = unique_bytes()
    colleague = api.as_role("contributor", workspace)
    open_version(colleague, w, "theirs", {"m.pkl": data})

    register(api.admin, w, "ours", {"m.pkl": data})

    assert colleague.post(f"{w}/models/theirs/versions/1/commit").status_code == 200
