"""Pooled connections to the object store, behind a proxy that closes one just when it is used again."""

import socket
import threading

import pytest

from keelway_api.blobs import store as store_module
from keelway_api.blobs.objects import Piece
from keelway_api.blobs.store import BlobStore
from keelway_api.errors import DependencyAway
from keelway_api.settings import ApiSettings
from tests.support.api import Api


class ClosingProxy:
    """TCP to `target`. Every connection ends, without an answer, as soon as its second request comes.

    `answers` false: also at the first.
    """

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers = True
        self.closed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            answered = threading.Event()
            back = threading.Thread(target=_copy, args=(server, client, answered), daemon=True)
            back.start()
            while piece := client.recv(65536):
                if answered.is_set() or not self.answers:
                    self.closed += 1
                    break
                server.sendall(piece)
            server.shutdown(socket.SHUT_RDWR)
            back.join()


def _copy(server: socket.socket, client: socket.socket, answered: threading.Event) -> None:
    while piece := server.recv(65536):
        answered.set()
        client.sendall(piece)


@pytest.fixture
def proxy(api: Api):
    proxy = ClosingProxy(api.env()["KEELWAY_S3_ENDPOINT"])
    yield proxy
    proxy.stop()


@pytest.fixture(params=["store on this host", "store on another host"])
def store(request, api: Api, proxy: ClosingProxy, monkeypatch) -> BlobStore:
    if request.param == "store on another host":
        monkeypatch.setattr(store_module, "LOOPBACK", frozenset())
    for name, value in (api.env() | {"KEELWAY_S3_ENDPOINT": proxy.address}).items():
        monkeypatch.setenv(name, value)
    return BlobStore(ApiSettings())  # pyright: ignore[reportCallIssue]


async def test_a_connection_that_was_closed_when_it_is_used_again_is_replaced(store, proxy):
    await store.put("connections/a", b"first")
    for data in (b"second", b"third"):
        await store.put("connections/a", data)
        assert await store.get_text("connections/a") == data.decode()
        assert await store.size("connections/a") == len(data)
        assert b"".join([chunk async for chunk in await store.open([Piece("connections/a", 0, 3)])]) == data[:3]
        assert await store.keys("connections/") == ["connections/a"]
    await store.delete(["connections/a"])

    assert await store.size("connections/a") is None
    assert proxy.closed


async def test_bytes_come_back_as_they_were_put_whatever_holds_them(store, proxy):
    data = bytes(range(256)) * 2**15  # a whole part
    for given in (b"", b"x", memoryview(bytearray(data)), data):
        await store.put("connections/b", given)
        assert await store.size("connections/b") == len(given)
        pieces = [Piece("connections/b", 0, len(given))] if given else []
        assert b"".join([chunk async for chunk in await store.open(pieces)]) == bytes(given)
    await store.delete(["connections/b"])


async def test_a_store_that_never_answers_is_away(store, proxy):
    proxy.answers = False

    with pytest.raises(DependencyAway):
        await store.get_text("connections/none")
    assert proxy.closed == 2
