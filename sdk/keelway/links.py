"""Large files straight from the object store, by links that the API signs. What the store does not give, the API does.

The store gets nothing of ours but the link: requests to it go over connections of their own, without token or cookies,
and past the client's log, since whoever has a link may read the bytes.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keelway.contracts.files import FileLinks, PartLink
from keelway.errors import KeelwayError
from keelway.resources.base import parsed

if TYPE_CHECKING:
    from keelway.client import Client

_Origin = tuple[str, str, int | None]

_CONNECT_S, _READ_S = 3.0, 30.0
_PIECE_BYTES = 256 * 1024
_MOST_KNOWN = 1024
_TRIES = 2  # a link may have expired, and an idle connection may have been closed
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Store:
    """The object store, as long as it answers: whoever finds that it does not spares all others the wait.

    http.client and not httpx2, which takes twice the time for as many bytes.
    """

    def __init__(self) -> None:
        self.is_away = False
        self._idle: dict[_Origin, list[HTTPConnection]] = defaultdict(list)

    def read(self, url: str, first: int, last: int) -> Iterator[memoryview]:
        """The bytes from `first` to `last` of an object, in pieces that last until the next is asked for.

        Raises Refused when it answers with anything else, OSError and HTTPException when no more comes.
        """
        address = urlsplit(url)
        origin = (address.scheme, address.hostname or "", address.port)
        connection = self._connection(origin)
        try:
            headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
            connection.request("GET", f"{address.path}?{address.query}", headers=headers)
            yield from _pieces(connection.getresponse(), first, last)
        except BaseException:  # whoever wants no more of it included
            connection.close()
            raise
        self._idle[origin].append(connection)

    def _connection(self, origin: _Origin) -> HTTPConnection:
        try:
            return self._idle[origin].pop()
        except IndexError:
            return _connect(*origin)

    def close(self) -> None:
        """Close all connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()


class Refused(Exception):  # noqa: N818  (never seen by callers)
    """The store does not give what the link is for: it may have expired."""


class Links:
    """One file's bytes in the store. Links are asked for when they are wanted, and again when they are refused."""

    def __init__(self, client: Client, url: str | None, store: Store) -> None:
        self._client, self._url, self._store = client, url, store
        self._parts: list[PartLink] = []
        self._asking = threading.Lock()

    def fetch(self, start: int, end: int, take: Callable[[memoryview], None]) -> int:
        """Bring the bytes from `start` to before `end`, each once; where they ended when the store gives no more."""
        at, tries = start, 0
        while at < end and tries < _TRIES and (part := self._part(at)):
            tries += 1
            try:
                for chunk in self._store.read(part.url, at - part.offset, min(end, _end(part)) - part.offset - 1):
                    take(chunk)
                    at += len(chunk)
                    tries = 0
            except Refused:
                self._forget(part)
            except (OSError, HTTPException):
                continue
        if at < end:
            self._store.is_away = True
        return at

    def _part(self, at: int) -> PartLink | None:
        with self._asking:
            if self._store.is_away:
                return None
            return self._known(at) or self._asked(at)

    def _known(self, at: int) -> PartLink | None:
        return next((part for part in self._parts if part.offset <= at < _end(part)), None)

    def _asked(self, at: int) -> PartLink | None:
        if self._url is None:
            return None
        try:
            answer = self._client.request("GET", self._url, params={"offset": at}, retry_for_s=0)
            parts = parsed(FileLinks, answer).parts
        except KeelwayError:  # an older server, or one that is away: it is asked for the bytes themselves next
            return None
        # Others are still busy with those before: only of a huge file are the oldest ones forgotten.
        self._parts = [*filter(self._is_for_us, parts), *self._parts][:_MOST_KNOWN]
        return self._known(at)

    def _is_for_us(self, part: PartLink) -> bool:
        """Loopback in the answer of another host is that host's, and not ours."""
        try:
            address = urlsplit(part.url)
            host, _ = (address.hostname or "").encode("idna").decode(), address.port
        except ValueError:
            return False
        is_ours = host not in _LOOPBACK or self._client.transport.url.host in _LOOPBACK
        return is_ours and address.scheme in {"http", "https"}

    def _forget(self, part: PartLink) -> None:
        """Have links asked for anew, unless another thread did already."""
        with self._asking:
            if part in self._parts:
                self._parts = []


def _end(part: PartLink) -> int:
    return part.offset + part.size_bytes


def _connect(scheme: str, host: str, port: int | None) -> HTTPConnection:
    kind = HTTPSConnection if scheme == "https" else HTTPConnection
    connection = kind(host, port, timeout=_CONNECT_S)
    connection.connect()
    connection.sock.settimeout(_READ_S)
    return connection


def _pieces(response: HTTPResponse, first: int, last: int) -> Iterator[memoryview]:
    left = last - first + 1
    is_asked_for = response.getheader("Content-Range", "").startswith(f"bytes {first}-{last}/")
    if response.status != HTTPStatus.PARTIAL_CONTENT or not is_asked_for or response.length != left:
        raise Refused
    buffer = memoryview(bytearray(min(left, _PIECE_BYTES)))
    while left:
        size_bytes = response.readinto(buffer[:left])
        if not size_bytes:
            raise IncompleteRead(b"", left)
        yield buffer[:size_bytes]
        left -= size_bytes
