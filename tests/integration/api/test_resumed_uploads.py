"""Uploads that broke off and go on: what is stored is not sent again, and the whole is verified all the same."""

import contextlib
import http.client
import os
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from keelway import Client
from keelway_api.blobs.upload import PART_BYTES
from tests.support.objects import keys_of
from tests.support.problems import assert_problem
from tests.support.registry import open_version, sha256
from tests.support.stack import until

PARTS = 4


@pytest.fixture
def data():
    return os.urandom(PARTS * PART_BYTES - 5)


@contextlib.contextmanager
def begun(api, path, data, upto):
    """A connection that announced all of it and has sent `upto` bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    connection.putrequest("PUT", path)
    connection.putheader("Authorization", f"Bearer {api.token('admin')}")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[:upto])
    try:
        yield connection
    finally:
        connection.close()


def progress(api, data):
    return api.admin.get(f"/v1/blobs/{sha256(data)}/upload").json()


def rest(api, data, offset, *, body=None):
    headers = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
    return api.admin.put(f"/v1/blobs/{sha256(data)}", content=body or data[offset:], headers=headers)


@pytest.fixture
def interrupted(api, w, data):
    """Two parts and a half came; the number of bytes that are stored."""
    open_version(api.admin, w, "large", {"m.bin": data})
    with begun(api, f"/v1/blobs/{sha256(data)}", data, 2 * PART_BYTES + PART_BYTES // 2):
        until(lambda: progress(api, data)["received_bytes"] == 2 * PART_BYTES, "two parts are stored", 20)
    return 2 * PART_BYTES


def committed(api, w, data):
    assert api.admin.post(f"{w}/models/large/versions/1/commit").status_code == 200
    return api.admin.get(f"{w}/models/large/versions/1/files/m.bin").content == data


def test_an_upload_goes_on_behind_its_stored_parts(api, w, data, interrupted):
    assert rest(api, data, interrupted).status_code == 204

    assert committed(api, w, data)
    assert len(keys_of(api.stack.s3, sha256(data))) >= PARTS


def test_an_upload_goes_on_after_the_api_was_killed(api, w, data, interrupted):
    api.kill_api()
    api.start_api()

    assert progress(api, data)["received_bytes"] == interrupted
    assert rest(api, data, interrupted).status_code == 204
    assert committed(api, w, data)


def test_a_last_answer_that_was_lost_is_asked_for_without_sending_anything(api, w, data):
    open_version(api.admin, w, "large", {"m.bin": data})
    path = f"/v1/blobs/{sha256(data)}"
    api.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON blobs FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        assert api.admin.put(path, content=data).status_code == 500
    finally:
        api.sql("DROP TRIGGER refuse ON blobs; DROP FUNCTION refuse()")

    assert progress(api, data)["received_bytes"] >= (PARTS - 1) * PART_BYTES
    answer = api.admin.put(path, content=b"", headers={"Content-Range": f"bytes */{len(data)}"})

    assert answer.status_code == 204, answer.text
    assert committed(api, w, data)


def test_wrong_bytes_behind_right_ones_are_found_and_nothing_of_them_is_kept(api, w, data, interrupted):
    wrong = bytes(len(data) - interrupted)

    assert_problem(rest(api, data, interrupted, body=wrong), "digest-mismatch")

    assert progress(api, data)["received_bytes"] == 0
    assert_problem(api.admin.post(f"{w}/models/large/versions/1/commit"), "blobs-missing")
    assert api.admin.put(f"/v1/blobs/{sha256(data)}", content=data).status_code == 204
    assert committed(api, w, data)


@pytest.mark.parametrize("offset", [1, PART_BYTES - 1, 3 * PART_BYTES])
def test_an_offset_where_no_stored_part_ends_is_refused(api, w, data, interrupted, offset):
    problem = assert_problem(rest(api, data, offset), "offset-mismatch")

    assert problem["received_bytes"] == interrupted


@pytest.mark.parametrize(
    "content_range", ["bytes 0-4/3", "bytes 5-1/9", "bytes 0-3/9", "bytes=0-3", "lines 0-3/4", "bytes */x"]
)
def test_a_content_range_that_is_none_is_refused(api, w, data, content_range):
    open_version(api.admin, w, "large", {"m.bin": data})

    answer = api.admin.put(f"/v1/blobs/{sha256(data)}", content=b"1234", headers={"Content-Range": content_range})

    assert_problem(answer, "invalid-request")


def test_of_two_senders_with_one_token_the_later_wins_and_the_earlier_is_told(api, w, data):
    open_version(api.admin, w, "large", {"m.bin": data})
    path = f"/v1/blobs/{sha256(data)}"
    with begun(api, path, data, PART_BYTES + 10) as earlier:
        until(lambda: progress(api, data)["received_bytes"] == PART_BYTES, "one part is stored", 20)

        assert api.admin.put(path, content=data).status_code == 204
        earlier.send(data[PART_BYTES + 10 :])
        answer = earlier.getresponse()

        assert answer.status == 409
        answer.read()
    assert committed(api, w, data)


def test_many_senders_of_one_file_at_once_leave_one_whole_blob(api, w):
    data = os.urandom(2 * PART_BYTES)
    open_version(api.admin, w, "large", {"m.bin": data})

    with ThreadPoolExecutor(6) as pool:
        path = f"/v1/blobs/{sha256(data)}"
        answers = list(pool.map(lambda _: api.admin.put(path, content=data), range(12)))

    codes = {answer.status_code for answer in answers}
    assert codes <= {204, 409}, {answer.text for answer in answers}
    assert 204 in codes
    assert committed(api, w, data)


def test_somebody_elses_progress_is_not_shown(api, workspace, w, data, interrupted):
    colleague = api.as_role("contributor", workspace)
    stranger = api.as_role("contributor", api.workspace())

    for client in (colleague, stranger):
        assert_problem(client.get(f"/v1/blobs/{sha256(data)}/upload"), "blob-not-expected")
        assert_problem(client.put(f"/v1/blobs/{sha256(data)}", content=data), "blob-not-expected")


def test_an_upload_whose_stored_part_is_lost_begins_anew(api, w, data, interrupted):
    first = keys_of(api.stack.s3, sha256(data))[0]
    api.stack.s3.client().remove_object("keelway", first)

    problem = assert_problem(rest(api, data, interrupted), "offset-mismatch")

    assert problem["received_bytes"] == progress(api, data)["received_bytes"] == 0
    assert api.admin.put(f"/v1/blobs/{sha256(data)}", content=data).status_code == 204
    assert committed(api, w, data)


def test_ranges_are_read_across_parts(api, w, data):
    open_version(api.admin, w, "large", {"m.bin": data})
    assert api.admin.put(f"/v1/blobs/{sha256(data)}", content=data).status_code == 204
    assert committed(api, w, data)
    first, last = PART_BYTES - 3, 3 * PART_BYTES + 1

    answer: httpx2.Response = api.admin.get(
        f"{w}/models/large/versions/1/files/m.bin", headers={"Range": f"bytes={first}-{last}"}
    )

    assert (answer.status_code, answer.content == data[first : last + 1]) == (206, True)


@pytest.mark.parametrize("size_bytes", [3 * 2**20, 100 * 2**20])
def test_several_clients_with_one_token_that_send_the_same_file_all_end_well(api, workspace, tmp_path, size_bytes):
    (tmp_path / "big.bin").write_bytes(os.urandom(size_bytes))

    def upload(_):
        with Client(api.url, api.token("admin"), workspace=workspace) as client:
            return client.snapshots.upload_files({"big.bin": tmp_path / "big.bin"})

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(upload, range(3)))

    assert {(one.digest, one.state) for one in made} == {(made[0].digest, "ready")}
