"""Large files straight from the store: it gets nothing of ours, and what it does not give comes from the API."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from keelway import downloads, links
from keelway.errors import DamagedDownload
from tests.unit.sdk.samples import entry
from tests.unit.sdk.test_models import VERSIONS, hold
from tests.unit.sdk.wire import Answer, Asked, Wire, problem, serving

RANGE, PART = 64 * 1024, 40_000
CONTENT = os.urandom(5 * RANGE + 1000)
FILE, LINKS = f"{VERSIONS}/1/files/mdl/big.bin", f"{VERSIONS}/1/links/mdl/big.bin"
REFUSED = Answer(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})


@pytest.fixture(autouse=True)
def _in_ranges(monkeypatch):
    monkeypatch.setattr(downloads, "RANGE_BYTES", RANGE)


@pytest.fixture
def store() -> Iterator[Wire]:
    """Where the links lead."""
    with serving() as server:
        yield server


def ranged(content: bytes, **how: Any):
    """A reply with the range that is asked for."""

    def reply(asked: Asked) -> Answer:
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return Answer(206, content[first : last + 1], headers, **how)

    return reply


def link_to(wire: Wire, url: str, *, at_once: int = 100) -> None:
    """Have the API give links to a store, another signature each time, and not to more than some parts at once."""
    signatures = count(1)

    def reply(asked: Asked) -> Answer:
        first = int(asked.query.removeprefix("offset=")) // PART
        offsets = range(first * PART, len(CONTENT), PART)[:at_once]
        signature = next(signatures)
        parts = [
            {"url": f"{url}/p{at // PART}?sig={signature}", "offset": at, "size_bytes": min(PART, len(CONTENT) - at)}
            for at in offsets
        ]
        listed = entry("mdl/big.bin", CONTENT).model_dump()
        return Answer(200, {**listed, "expires_at": "2030-01-01T00:00:00Z", "parts": parts})

    wire.on(f"GET {LINKS}", reply)


@pytest.fixture
def linked(wire: Wire, store: Wire) -> Wire:
    """A version whose large file the store has in nine parts, and the API as well."""
    hold(wire, {"mdl/small.txt": b"small"}, listed=[entry("mdl/big.bin", CONTENT), entry("mdl/small.txt", b"small")])
    wire.on(f"GET {FILE}", ranged(CONTENT))
    link_to(wire, store.url)
    for number, at in enumerate(range(0, len(CONTENT), PART)):
        store.on(f"GET /p{number}", ranged(CONTENT[at : at + PART]))
    return wire


def download(client, tmp_path) -> list[int]:
    """Download it, which must succeed; the progress that was told."""
    seen: list[int] = []
    path = client.models.download("ridge", 1, tmp_path / "to", progress=lambda _, done, __: seen.append(done))
    assert (path / "big.bin").read_bytes() == CONTENT
    assert (path / "small.txt").read_bytes() == b"small"
    assert seen[-1] == len(CONTENT) + 5
    return seen


def test_a_large_file_comes_from_the_store_and_a_small_one_from_the_api(linked, store, client, tmp_path):
    download(client, tmp_path)

    assert linked.of("GET", FILE) == []
    assert len(linked.of("GET", LINKS)) <= 4  # once, unless a thread further behind was faster
    assert len(linked.of("GET", f"{VERSIONS}/1/files/mdl/small.txt")) == 1
    assert sum(map(_length, store.asked)) == len(CONTENT)


def _length(asked: Asked) -> int:
    first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
    return last - first + 1


def test_the_store_gets_the_link_and_nothing_of_ours(linked, store, client, tmp_path):
    client.transport.http.headers["X-Own"] = "own"
    client.transport.http.cookies.set("session", "secret", domain="127.0.0.1")

    download(client, tmp_path)

    assert {name for asked in store.asked for name in asked.headers} == {"host", "range", "accept-encoding"}
    assert all(re.fullmatch(r"sig=\d+", asked.query) for asked in store.asked)


def test_no_link_is_logged(linked, store, client, tmp_path, caplog):
    with caplog.at_level("DEBUG"):
        download(client, tmp_path)

    assert "mdl/small.txt" in caplog.text
    assert "sig=" not in caplog.text


def test_more_links_are_asked_for_where_those_known_end(linked, store, client, tmp_path):
    link_to(linked, store.url, at_once=2)

    download(client, tmp_path)

    assert 5 <= len(linked.of("GET", LINKS)) <= 9
    assert linked.of("GET", FILE) == []


def test_a_link_that_has_expired_is_replaced(linked, store, client, tmp_path):
    for number, at in enumerate(range(0, len(CONTENT), PART)):
        whole = ranged(CONTENT[at : at + PART])
        store.on(f"GET /p{number}", lambda asked, whole=whole: REFUSED if asked.query == "sig=1" else whole(asked))

    download(client, tmp_path)

    assert linked.of("GET", FILE) == []
    # An answer begins where it was asked for: whoever is further behind asks again, of each signature once.
    ranges = -(-len(CONTENT) // RANGE)
    assert 1 < len(linked.of("GET", LINKS)) <= 2 * ranges


def test_a_part_that_was_cut_goes_on_where_it_ended(linked, store, client, tmp_path):
    first = CONTENT[:PART]
    store.on("GET /p0", ranged(first, cut_at=1000), ranged(first))

    download(client, tmp_path)

    assert [asked.headers["range"] for asked in store.of("GET", "/p0")][:2] == ["bytes=0-39999", "bytes=1000-39999"]
    assert linked.of("GET", FILE) == []


@pytest.mark.parametrize(
    "reply",
    [
        REFUSED,
        Answer(404, b"gone"),
        Answer(503, b"busy"),
        Answer(307, b"", {"Location": "http://127.0.0.1:1/"}),
        Answer(200, CONTENT[:PART]),
        Answer(206, CONTENT[:PART], {"Content-Range": "bytes 5-40004/40000"}),
        Answer(206, CONTENT[:10], {"Content-Range": "bytes 0-39999/40000"}),
        Answer(206, b"", {"Content-Range": "bytes 0-39999/40000"}, cut_at=0),
        Answer(drop=True),
    ],
    ids=["refused", "gone", "busy", "elsewhere", "whole", "other", "short", "empty", "dropped"],
)
def test_what_the_store_does_not_give_the_api_does(linked, store, client, tmp_path, reply):
    store.on("GET /p0", reply)

    download(client, tmp_path)

    assert linked.of("GET", FILE)
    assert len(store.of("GET", "/p0")) <= 2


def test_a_store_that_cannot_be_reached_is_asked_once(linked, client, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    link_to(linked, f"http://127.0.0.1:{port}")

    download(client, tmp_path)

    assert len(linked.of("GET", FILE)) == 6
    assert len(linked.of("GET", LINKS)) <= 2


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1",
        "file:///etc",
        "http://127.0.0.1:port",
        "http://" + "a" * 70 + ".example",
        "//x",
        "",
        "http://[",
    ],
)
def test_an_address_that_is_none_is_not_asked(linked, client, tmp_path, url):
    link_to(linked, url)

    download(client, tmp_path)

    assert len(linked.of("GET", FILE)) == 6


def test_somebody_elses_loopback_is_not_taken_for_ours(linked, store, client, tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_LOOPBACK", frozenset({"localhost"}))
    link_to(linked, store.url.replace("127.0.0.1", "localhost"))

    download(client, tmp_path)

    assert store.asked == []
    assert len(linked.of("GET", FILE)) == 6


@pytest.mark.parametrize("reply", [Answer(200, {"parts": "none"}), problem(500, "internal-error"), Answer(drop=True)])
def test_an_api_that_knows_no_links_gives_the_bytes(linked, store, client, tmp_path, reply):
    linked.on(f"GET {LINKS}", reply)

    download(client, tmp_path)

    assert store.asked == []


def test_wrong_bytes_of_the_store_leave_nothing(linked, store, client, tmp_path):
    store.on("GET /p3", ranged(bytes(PART)))

    with pytest.raises(DamagedDownload):
        client.models.download("ridge", 1, tmp_path / "to")
    assert not (tmp_path / "to" / "mdl").exists()
    assert not list(tmp_path.rglob("*.ranges"))


def test_links_can_be_asked_for(linked, store, client):
    found = client.models.links("ridge:1", "", "mdl/big.bin", offset=3 * PART)

    assert found.size_bytes == len(CONTENT)
    assert (found.parts[0].offset, found.parts[0].size_bytes) == (3 * PART, PART)


def test_a_killed_process_is_gone_on_with(linked, store, client, tmp_path):
    script = f"""
import os, signal
from keelway import Client, downloads
downloads.RANGE_BYTES = {RANGE}
def die_halfway(phase, done, total):
    if done > 4 * {RANGE}:
        os.kill(os.getpid(), signal.SIGKILL)
Client({linked.url!r}, "kw_secret").models.download("ridge", 1, {str(tmp_path / "to")!r}, progress=die_halfway)
"""
    killed = subprocess.run([sys.executable, "-c", script], timeout=30)
    assert killed.returncode == -signal.SIGKILL
    store.asked.clear()

    download(client, tmp_path)

    assert 0 < sum(map(_length, store.asked)) < len(CONTENT)
    assert linked.of("GET", FILE) == []
