"""Links to the parts of a file in the store: for who may read it, for a while, for nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx2
import pytest

from keelway import Client, downloads
from keelway.errors import DamagedDownload
from keelway_api.blobs.upload import PART_BYTES
from tests.support.api import Api
from tests.support.objects import keys_of, write
from tests.support.problems import assert_problem
from tests.support.registry import open_version, register, sha256, unique_bytes
from tests.unit.sdk.wire import serving

USUAL = {"KEELWAY_S3_LINK_S": "900"}
PARTS, RANGE_BYTES = 3, PART_BYTES // 8
DATA = os.urandom((PARTS - 1) * PART_BYTES + 12_345)


@pytest.fixture(scope="module")
def workspace(api) -> str:
    """A workspace with DATA in it, in parts."""
    made = api.workspace()
    register(api.admin, f"/v1/workspaces/{made}", "large", {"m/large.bin": DATA, "m/empty": b"", "m/small": b"small"})
    return made


@pytest.fixture
def version(w) -> str:
    return f"{w}/models/large/versions/1"


@pytest.fixture
def client(api, workspace, monkeypatch) -> Iterator[Client]:
    """Takes everything but the smallest files in ranges."""
    monkeypatch.setattr(downloads, "RANGE_BYTES", RANGE_BYTES)
    with Client(api.url, api.token("admin"), workspace=workspace) as client:
        yield client


@contextmanager
def changed(api: Api, **settings: str) -> Iterator[None]:
    """The API with other settings."""
    before = {**USUAL, "KEELWAY_S3_PUBLIC_URL": api.env()["KEELWAY_S3_PUBLIC_URL"]}
    try:
        restart(api, **settings)
        yield
    finally:
        restart(api, **before)


def restart(api: Api, **settings: str) -> None:
    api.stop_api()
    api.change(**settings)
    api.start_api()


def links(api, version, path="m/large.bin", **params):
    answer = api.admin.get(f"{version}/links/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def get(part):
    return httpx2.get(part["url"], trust_env=False)


def files_read(api, since):
    """What was read through the API since then."""
    return [line["path"] for line in api.log_lines(since=since) if "/files/m/" in line.get("path", "")]


def test_the_parts_are_the_file(api, version):
    answer = api.admin.get(f"{version}/links/m/large.bin")

    found = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert (found["path"], found["size_bytes"], found["sha256"]) == ("m/large.bin", len(DATA), sha256(DATA))
    assert [part["offset"] for part in found["parts"]] == [0, PART_BYTES, 2 * PART_BYTES]
    assert [part["size_bytes"] for part in found["parts"]] == [PART_BYTES, PART_BYTES, 12_345]
    assert b"".join(get(part).content for part in found["parts"]) == DATA
    lasts = datetime.fromisoformat(found["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < lasts < timedelta(minutes=15)


def test_links_begin_with_the_part_that_is_asked_for(api, version):
    for offset, first in ((0, 0), (PART_BYTES - 1, 0), (PART_BYTES, 1), (len(DATA) - 1, 2)):
        assert links(api, version, offset=offset)["parts"][0]["offset"] == first * PART_BYTES
    for offset in (len(DATA), 2**63 - 1):
        assert links(api, version, offset=offset)["parts"] == []
    for offset in (-1, 2**63, "x"):
        assert_problem(api.admin.get(f"{version}/links/m/large.bin", params={"offset": offset}), "invalid-request")


def test_small_files_have_one_part_and_empty_ones_none(api, version):
    (part,) = links(api, version, "m/small")["parts"]

    assert get(part).content == b"small"
    assert links(api, version, "m/empty")["parts"] == []


def test_links_are_for_who_may_read_the_file(api, workspace, version):
    path = f"{version}/links/m/large.bin"

    assert api.as_role("reader", workspace).get(path).status_code == 200
    assert_problem(api.nobody.get(path), "unauthenticated")
    assert_problem(api.as_role("admin", api.workspace()).get(path), "not-found")
    assert_problem(api.worker.get(path), "not-found")
    assert_problem(api.admin.get(path.replace(workspace, api.workspace())), "not-found")
    assert_problem(api.admin.get(f"{version}/links/m/other"), "not-found")


def test_there_are_no_links_before_a_version_is_ready(api, w):
    open_version(api.admin, w, "unready", {"m.bin": unique_bytes()})

    assert_problem(api.admin.get(f"{w}/models/unready/versions/1/links/m.bin"), "wrong-state")


def test_a_link_opens_nothing_else(api, version):
    first, second, _ = (part["url"] for part in links(api, version)["parts"])
    key, signature = first.partition("?")[0], first.partition("?")[2]
    others = [second.partition("?")[0], key.rpartition("/")[0], key.split("/blobs/")[0]]

    for method in ("PUT", "DELETE", "HEAD"):
        assert httpx2.request(method, first, trust_env=False).status_code == 403, method
    for other in others:
        assert httpx2.get(f"{other}?{signature}", trust_env=False).status_code == 403, other
    assert httpx2.get(first.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"), trust_env=False).status_code == 403
    assert httpx2.get(key, trust_env=False).status_code == 403
    assert get({"url": first}).content == DATA[:PART_BYTES]


def test_a_download_goes_past_the_api(api, client, tmp_path):
    since = api.log.stat().st_size

    path = client.models.download("large", 1, tmp_path)

    assert (path / "large.bin").read_bytes() == DATA
    assert [path for path in files_read(api, since) if "large.bin" in path] == []


def test_links_that_expired_meanwhile_are_replaced(api, client, version, tmp_path):
    with changed(api, KEELWAY_S3_LINK_S="3"):
        (part, *_) = links(api, version)["parts"]
        assert get(part).status_code == 200
        since, waited = api.log.stat().st_size, []

        def wait(phase: str, done: int, total: int) -> None:
            if done > RANGE_BYTES and not waited:
                waited.append(done)
                time.sleep(4.5)  # nobody else goes on meanwhile either: they wait to tell their progress

        path = client.models.download("large", 1, tmp_path, progress=wait)

        assert (path / "large.bin").read_bytes() == DATA
        assert get(part).status_code == 403
        lines = [line["path"] for line in api.log_lines(since=since) if "path" in line]
        assert len([path for path in lines if "/links/" in path]) >= 2
        assert [path for path in files_read(api, since) if "large.bin" in path] == []


def test_a_store_that_clients_cannot_reach_costs_them_nothing_but_time(api, client, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with changed(api, KEELWAY_S3_PUBLIC_URL=f"http://127.0.0.1:{port}"):
        path = client.models.download("large", 1, tmp_path)

    assert (path / "large.bin").read_bytes() == DATA


def test_whoever_stands_where_the_store_should_sees_no_token(api, client, tmp_path):
    with serving() as other, changed(api, KEELWAY_S3_PUBLIC_URL=other.url):
        path = client.models.download("large", 1, tmp_path)

        assert (path / "large.bin").read_bytes() == DATA
        assert other.asked
        token = api.token("admin")
        assert [asked for asked in other.asked if token in str(asked) or "authorization" in asked.headers] == []


def test_without_a_public_address_all_bytes_come_through_the_api(api, client, version, tmp_path):
    with changed(api, KEELWAY_S3_PUBLIC_URL=""):
        found = links(api, version)
        path = client.models.download("large", 1, tmp_path)

    assert (found["parts"], found["expires_at"], found["sha256"]) == ([], None, sha256(DATA))
    assert (path / "large.bin").read_bytes() == DATA


def test_wrong_bytes_in_the_store_leave_nothing(api, client, w, tmp_path):
    data = os.urandom(2 * PART_BYTES)
    register(api.admin, w, "rotten", {"m.bin": data})
    write(api.stack.s3, keys_of(api.stack.s3, sha256(data))[1], bytes(PART_BYTES))

    with pytest.raises(DamagedDownload):
        client.models.download("rotten", 1, tmp_path)
    assert list(tmp_path.rglob("*.bin")) == list(tmp_path.rglob("*.ranges")) == []


def test_a_killed_download_is_gone_on_with(api, client, workspace, tmp_path):
    script = f"""
import os, signal
from keelway import Client, downloads
downloads.RANGE_BYTES = {RANGE_BYTES}
def die_halfway(phase, done, total):
    if done > {PART_BYTES}:
        os.kill(os.getpid(), signal.SIGKILL)
client = Client({api.url!r}, {api.token("admin")!r}, workspace={workspace!r})
client.models.download("large", 1, {str(tmp_path)!r}, progress=die_halfway)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode < 0
    steps: list[int] = []

    path = client.models.download("large", 1, tmp_path, progress=lambda _, done, __: steps.append(done))

    assert (path / "large.bin").read_bytes() == DATA
    assert max(after - before for before, after in pairwise(steps)) >= RANGE_BYTES
