"""What the object store says when it does not take bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from typing import Any

import anyio
import pytest
from minio.error import S3Error
from pydantic import AnyHttpUrl, SecretStr

from keelway_api.blobs import store
from keelway_api.blobs.store import BlobStore
from keelway_api.errors import DependencyAway, answer
from keelway_api.settings import ApiSettings

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>later</Message></Error>"


@pytest.fixture(params=["on this host", "on another host"], autouse=True)
def place(request, monkeypatch):
    """Stores are sent bytes in two ways; those that have trouble are asked again soon."""
    monkeypatch.setattr(store, "BACKOFF_S", 0.01)
    if request.param == "on another host":
        monkeypatch.setattr(store, "LOOPBACK", frozenset())


@contextmanager
def answering(status: int, body: bytes, *, times: int | None = None) -> Iterator[str]:
    """The address of a store that answers a PUT with this: always, or so many times before it takes what is sent."""
    left = count() if times is None else iter(range(times))

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if next(left, None) is None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/xml" if b"<Error>" in body else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(503, SLOW_DOWN), (500, b"no XML at all"), (502, b"")], ids=["slow-down", "text", "empty"]
)
def test_a_store_that_takes_nothing_is_away(status, body):
    with answering(status, body) as endpoint, pytest.raises(DependencyAway):
        anyio.run(store_at(endpoint).put, "key", b"bytes")


@pytest.mark.parametrize(("status", "body"), [(503, SLOW_DOWN), (500, b"no XML at all"), (502, b"")])
def test_a_store_that_has_trouble_for_a_moment_is_asked_again(status, body):
    with answering(status, body, times=2) as endpoint:
        anyio.run(store_at(endpoint).put, "key", b"bytes")


def test_a_refusal_is_not_asked_again():
    with answering(403, b"<Error><Code>AccessDenied</Code></Error>", times=1) as endpoint, pytest.raises(S3Error):
        anyio.run(store_at(endpoint).put, "key", b"bytes")


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("https://store.example", "https://store.example/keelway/a/key?"),
        ("http://[::1]:8333", "http://[::1]:8333/keelway/a/key?"),
    ],
)
def test_links_lead_to_the_public_address_and_cost_no_request(url, start):
    store = store_at("127.0.0.1:1", s3_public_url=AnyHttpUrl(url))

    (link,), expires_at = anyio.run(store.links, ["a/key"])

    assert link.startswith(start)
    assert "X-Amz-Expires=900&" in link
    assert timedelta(seconds=890) < expires_at - datetime.now(UTC) <= timedelta(seconds=900)


def store_at(endpoint: str, **more: Any) -> BlobStore:
    return BlobStore(
        ApiSettings.model_construct(
            **more,
            s3_endpoint=endpoint,
            s3_access_key=SecretStr("a" * 20),
            s3_secret_key=SecretStr("s" * 40),
            s3_secure=False,
            s3_region="us-east-1",
            s3_bucket="keelway",
        )
    )


def test_why_the_store_is_away_is_logged_without_its_signed_addresses(capsys):
    with answering(503, SLOW_DOWN) as endpoint:
        try:
            anyio.run(store_at(endpoint).put, "key", b"bytes")
        except DependencyAway as error:
            answer(error, instance="/v1/blobs/x", request_id="r")
    closed = f"127.0.0.1:{endpoint.rpartition(':')[2]}"  # nobody listens there any more
    try:
        anyio.run(store_at(closed).put, "key", b"bytes")
    except DependencyAway as error:
        answer(error, instance="/v1/blobs/x", request_id="r")

    logged = capsys.readouterr().out
    assert "S3Error SlowDown" in logged
    assert "MaxRetryError < NewConnectionError" in logged
    assert "a" * 20 not in logged
    assert "X-Amz" not in logged
