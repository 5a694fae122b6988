"""Clients that stall hold up neither other requests nor, for long, other uploads."""

import contextlib
import socket
import time

import pytest

from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.registry import open_version, register, sha256, unique_bytes
from tests.support.stack import until

STALLED = 40
IDLE_S = 2
MIN_BYTES_PER_S = 2


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """An API of its own, that loses patience soon."""
    settings = {
        "KEELWAY_UPLOAD_IDLE_S": str(IDLE_S),
        "KEELWAY_UPLOAD_MIN_BYTES_PER_S": str(MIN_BYTES_PER_S),
        "KEELWAY_UPLOADS_AT_ONCE": "8",  # so many of those that stall lose their turn at a time
    }
    api = Api(tmp_path_factory.mktemp("stalled"), **settings)
    api.start()
    yield api
    api.stop()


@contextlib.contextmanager
def stalling(api, w, count):
    """Uploads that send three bytes and then nothing."""
    data = unique_bytes()
    open_version(api.admin, w, "slow", {"m.bin": data})
    head = (
        f"PUT /v1/blobs/{sha256(data)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api.token('admin')}\r\n"
        f"Content-Length: {len(data)}\r\n\r\nabc"
    )
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", api.port))) for _ in range(count)]
        for connection in connections:
            connection.settimeout(40)
            connection.sendall(head.encode())
        yield connections


def test_forty_stalled_uploads_stop_nobody_else(api, w):
    with stalling(api, w, STALLED) as connections:
        asked = time.monotonic()
        assert api.admin.get("/v1/whoami").status_code == 200
        assert api.admin.get(f"{w}/models").status_code == 200
        answered_s = time.monotonic() - asked

        until(lambda: _registers(api, w), "another upload has its turn", 40)

        statuses = [int(connection.recv(64).split()[1]) for connection in connections]
    assert answered_s < IDLE_S
    assert {408, 503} >= set(statuses)
    assert 408 in statuses


def _registers(api, w):
    data = unique_bytes()
    upload = open_version(api.admin, w, "quick", {"m.bin": data})
    answer = api.admin.put(upload["missing"][0]["upload_url"], content=data)
    assert answer.status_code in {204, 503}
    return answer.status_code == 204


def test_an_upload_that_stalls_is_told_and_can_be_sent_again(api, w):
    data = unique_bytes()
    upload = open_version(api.admin, w, "halting", {"m.bin": data})

    def slow():
        yield data[:5]
        time.sleep(2 * IDLE_S)
        yield data[5:]

    url = upload["missing"][0]["upload_url"]
    headers = {"Content-Length": str(len(data))}
    assert_problem(api.admin.put(url, content=slow(), headers=headers), "upload-stalled")
    assert api.admin.put(url, content=data).status_code == 204


def test_an_upload_that_trickles_loses_its_turn(api, w):
    data = unique_bytes()
    upload = open_version(api.admin, w, "trickling", {"m.bin": data})

    def trickle():
        for byte in data:
            time.sleep(IDLE_S * 0.7)
            yield bytes([byte])

    headers = {"Content-Length": str(len(data))}
    answer = api.admin.put(upload["missing"][0]["upload_url"], content=trickle(), headers=headers)

    assert "bytes came a second" in assert_problem(answer, "upload-stalled")["detail"]


def test_a_slow_upload_that_goes_on_is_let_finish(api, w):
    data = unique_bytes()
    upload = open_version(api.admin, w, "steady", {"m.bin": data})

    def steady():
        for byte in data:
            time.sleep(IDLE_S / 8)
            yield bytes([byte])

    headers = {"Content-Length": str(len(data))}
    answer = api.admin.put(upload["missing"][0]["upload_url"], content=steady(), headers=headers)

    assert answer.status_code == 204
    assert register(api.admin, w, "after", {"m.bin": data})["state"] == "ready"
