"""What workers fetch."""

from __future__ import annotations

import pytest

from keelway.errors import DamagedDownload, NotFound
from tests.unit.sdk.samples import sha256
from tests.unit.sdk.wire import Answer


def test_a_blob_is_verified_and_renamed_into_place(wire, client, tmp_path):
    wire.on(f"GET /v1/blobs/{sha256(b'bytes')}", Answer(200, b"bytes"))

    client.blobs.download(sha256(b"bytes"), tmp_path / "ab" / "blob")

    assert (tmp_path / "ab" / "blob").read_bytes() == b"bytes"
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["blob"]


def test_a_damaged_blob_leaves_what_was_there(wire, client, tmp_path):
    (tmp_path / "blob").write_bytes(b"old")
    wire.on(f"GET /v1/blobs/{sha256(b'bytes')}", Answer(200, b"other"))

    with pytest.raises(DamagedDownload):
        client.blobs.download(sha256(b"bytes"), tmp_path / "blob")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir() if path.is_file()] == [("blob", b"old")]


def test_a_download_that_is_told_to_stop_leaves_nothing(wire, client, tmp_path):
    wire.on(f"GET /v1/blobs/{sha256(b'bytes')}", Answer(200, b"bytes"))

    def stop(size_bytes: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        client.blobs.download(sha256(b"bytes"), tmp_path / "ab" / "blob", progress=stop)
    assert not list((tmp_path / "ab").iterdir())


def test_an_unknown_blob_is_not_found(client, tmp_path):
    with pytest.raises(NotFound):
        client.blobs.download("0" * 64, tmp_path / "blob")


def test_routes_come_with_their_etag_and_none_when_unchanged(wire, client):
    wire.on("GET /v1/gateway/routes", Answer(200, {"http": {}}, {"ETag": '"7"'}), Answer(304))

    assert client.gateway.routes() == ('"7"', {"http": {}})
    assert client.gateway.routes('"7"', wait_s=3) is None

    assert "if-none-match" not in wire.asked[0].headers
    assert wire.asked[1].headers["if-none-match"] == '"7"'
    assert wire.asked[1].query == "wait_s=3"
