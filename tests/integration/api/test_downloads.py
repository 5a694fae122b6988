"""Bytes on their way out: whole, in ranges, as a tar, and never wrong."""

import base64
import hashlib
import io
import tarfile

import httpx2
import psutil
import pytest

from tests.support.api import wait_until
from tests.support.objects import keys_of, remove, write
from tests.support.problems import assert_problem
from tests.support.registry import register, sha256, unique_bytes

DATA = bytes(range(100))
FILES = {
    "m/plain.bin": DATA,
    "m/empty": b"",
    "m/sub folder/ünïcödé 模型.json": b"{}",
    "m/percent%20 & # ? +.txt": b"escaped",
    "m/" + "/".join(["long-name" * 8] * 12) + ".bin": b"deep",
    "m/block": b"x" * 512,
}


@pytest.fixture(scope="module")
def version(api):
    """The path of a version with DATA and odd names."""
    w = f"/v1/workspaces/{api.workspace()}"
    register(api.admin, w, "ridge", FILES)
    return f"{w}/models/ridge/versions/1"


@pytest.fixture
def plain(version):
    """The path of the file that holds DATA."""
    return f"{version}/files/m/plain.bin"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path[:20])
def test_a_file_comes_back_as_it_was_sent(api, version, path):
    response = api.admin.get(httpx2.URL(version).join(version + "/files/" + _escaped(path)))

    assert response.status_code == 200
    assert response.content == FILES[path]
    assert response.headers["content-length"] == str(len(FILES[path]))
    assert response.headers["etag"] == f'"{sha256(FILES[path])}"'
    digest = base64.b64encode(hashlib.sha256(FILES[path]).digest()).decode()
    assert response.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=0-0", 0, 0),
        ("bytes=40-59", 40, 59),
        ("bytes=90-", 90, 99),
        ("bytes=0-", 0, 99),
        ("bytes=-10", 90, 99),
        ("bytes=-1000", 0, 99),
        ("bytes=50-9999", 50, 99),
        ("bytes=99-99", 99, 99),
    ],
)
def test_a_range_is_honoured(api, plain, wanted, first, last):
    response = api.admin.get(plain, headers={"Range": wanted})

    assert response.status_code == 206
    assert response.content == DATA[first : last + 1]
    assert response.headers["content-range"] == f"bytes {first}-{last}/100"
    assert response.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999-"])
def test_a_range_outside_the_file_is_refused_with_its_size(api, plain, wanted):
    response = api.admin.get(plain, headers={"Range": wanted})

    assert assert_problem(response, "range-not-satisfiable")["size_bytes"] == 100
    assert response.headers["content-range"] == "bytes */100"


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1,3-4", "bytes=9-1", "bytes=-", "bytes=a-b", "lines=0-1", "", "bytes=" + "9" * 5000 + "-"]
)
def test_a_range_that_is_not_understood_gives_the_whole_file(api, plain, wanted):
    response = api.admin.get(plain, headers={"Range": wanted})

    assert (response.status_code, response.content) == (200, DATA)


def test_any_range_of_an_empty_file_is_refused(api, version):
    response = api.admin.get(f"{version}/files/m/empty", headers={"Range": "bytes=0-"})

    assert_problem(response, "range-not-satisfiable")


def test_what_the_caller_has_is_not_sent_again(api, plain):
    etag = f'"{sha256(DATA)}"'
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        response = api.admin.get(plain, headers={"If-None-Match": known})

        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    for other in ('"other"', f'"x{etag[1:]}', "", sha256(DATA)):
        assert api.admin.get(plain, headers={"If-None-Match": other}).content == DATA


def test_an_archive_that_the_caller_has_is_not_sent_again(api, version):
    etag = api.admin.get(f"{version}/archive").headers["etag"]

    for known in (etag, "*"):
        response = api.admin.get(f"{version}/archive", headers={"If-None-Match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert api.admin.get(f"{version}/archive", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_range_is_only_honoured_while_if_range_names_the_bytes(api, plain):
    same = api.admin.get(plain, headers={"Range": "bytes=0-9", "If-Range": f'"{sha256(DATA)}"'})
    other = api.admin.get(plain, headers={"Range": "bytes=0-9", "If-Range": '"other"'})

    assert (same.status_code, same.content) == (206, DATA[:10])
    assert (other.status_code, other.content) == (200, DATA)


def test_the_archive_holds_exactly_the_files(api, version):
    response = api.admin.get(f"{version}/archive")

    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        members = tar.getmembers()
        contents = {member.name: tar.extractfile(member).read() for member in members}
    assert contents == FILES
    assert all(member.isreg() and member.mode == 0o644 for member in members)


def test_the_list_of_files_is_the_manifest(api, version):
    items = api.admin.get(f"{version}/files").json()["items"]

    assert {item["path"]: (item["size_bytes"], item["sha256"]) for item in items} == {
        path: (len(data), sha256(data)) for path, data in FILES.items()
    }


def test_a_path_that_is_not_in_the_manifest_is_not_found(api, version):
    for path in ("m", "m/", "plain.bin", "m/plain", "M/plain.bin", "m/plain.bin/"):
        assert api.admin.get(f"{version}/files/{path}").status_code in {404, 307}


@pytest.mark.parametrize("size_bytes", [100, 3 * 2**20])
@pytest.mark.parametrize("what", ["files/m.pkl", "archive"])
def test_a_byte_that_flipped_in_the_store_is_never_served_as_good(api, w, what, size_bytes):
    data = (unique_bytes() * (size_bytes // 16 + 1))[:size_bytes]
    register(api.admin, w, "ridge", {"m.pkl": data})
    flipped = bytes([data[0] ^ 1]) + data[1:]
    _overwrite(api, sha256(data), flipped)

    with pytest.raises(httpx2.RemoteProtocolError):
        api.admin.get(f"{w}/models/ridge/versions/1/{what}")
    with pytest.raises(httpx2.RemoteProtocolError):
        api.worker.get(f"/v1/blobs/{sha256(data)}")


@pytest.mark.parametrize("kept", [0, 50])
def test_an_object_that_was_cut_short_is_never_served_as_good(api, w, kept):
    data = unique_bytes() * 10
    register(api.admin, w, "ridge", {"m.pkl": data})
    _overwrite(api, sha256(data), data[:kept])

    try:
        response = api.admin.get(f"{w}/models/ridge/versions/1/files/m.pkl")
    except httpx2.RemoteProtocolError:
        return
    assert_problem(response, "corrupt-bytes")


def test_an_object_that_is_gone_is_told_as_such(api, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})
    remove(api.stack.s3, sha256(data))

    assert_problem(api.admin.get(f"{w}/models/ridge/versions/1/files/m.pkl"), "corrupt-bytes")


def _overwrite(api, digest, data):
    (key,) = keys_of(api.stack.s3, digest)
    write(api.stack.s3, key, data)


def _escaped(path):
    from urllib.parse import quote

    return quote(path)


def test_clients_that_leave_in_the_middle_leave_no_connection_to_the_store(api, w):
    register(api.admin, w, "large", {"large.bin": unique_bytes() * 2**20})
    url = f"{w}/models/large/versions/1/files/large.bin"
    store = int(api.env()["KEELWAY_S3_ENDPOINT"].rsplit(":", 1)[1])

    def connections():
        ours = psutil.Process(api.process.pid).net_connections("tcp")
        return sum(bool(one.raddr) and one.raddr.port == store and one.status == "ESTABLISHED" for one in ours)

    before = connections()

    for _ in range(40):
        leaver = httpx2.Client(base_url=api.url, headers=api.admin.headers, trust_env=False)
        with leaver, leaver.stream("GET", url) as response:
            next(response.iter_raw())

    wait_until(lambda: connections() <= before + 4, "what was cut is closed")
    assert api.admin.get(url).content == api.admin.get(url).content
    assert not [line for line in api.log_lines() if line.get("level") == "error" and "large.bin" in str(line)]
