"""The object store. The only file that knows the S3 client.

The client is synchronous, so every call runs in a thread of its own pool.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from keelway_api.blobs.objects import Piece
from keelway_api.errors import CorruptBytes, DependencyAway
from keelway_api.settings import ApiSettings

CHUNK_BYTES = 2**20
MIN_PART_BYTES = 5 * 2**20  # what the client takes as a part size
CONNECT_S, READ_S = 2.0, 30.0
THREADS = 32
TROUBLE = (500, 502, 503, 504)
TRIES_AGAIN, BACKOFF_S = 3, 0.2  # at once, after 0.4 s and 0.8 s, each and up to 0.2 s more
LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
PUT_EXPIRES = timedelta(minutes=5)
AWAY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"}
GONE = {"NoSuchKey", "InvalidRange"}
Result = TypeVar("Result")


class BlobStore:
    """Objects in one bucket. Raises DependencyAway when the store cannot be reached."""

    def __init__(self, settings: ApiSettings) -> None:
        self._bucket = settings.s3_bucket
        self._pool = _pool(status_tries=TRIES_AGAIN)
        # Where bytes cannot change on the wire a signature over them only costs time: the store would hash them again.
        self._is_on_this_host = settings.s3_endpoint.rpartition(":")[0] in LOOPBACK
        self._client = _client(settings, self._pool)
        self._hasty = _client(settings, _pool(status_tries=0))
        self._threads = anyio.CapacityLimiter(THREADS)
        self._public = _public_client(settings)
        self._link_lasts = timedelta(seconds=settings.s3_link_s)

    async def check(self) -> None:
        """Make the bucket when it is not there."""
        await self._run(self._ensure_bucket)

    async def put(self, key: str, data: bytes | memoryview) -> None:
        """Store one object."""
        await self._run(lambda: self._put(key, data))

    async def put_text(self, key: str, text: str) -> None:
        """Store a small text under a key of its own."""
        await self.put(key, text.encode())

    async def get_text(self, key: str) -> str:
        """A small text. Raises FileNotFoundError."""
        return (await self._run(lambda: self._read(key))).decode()

    async def size(self, key: str) -> int | None:
        """Size in bytes of an object; None when it is not there."""
        return await self._run(lambda: self._size(key))

    async def open(self, pieces: Iterable[Piece], *, is_hasty: bool = False) -> AsyncIterator[bytes]:
        """Chunks of these pieces, one after the other. `is_hasty`: a store that has trouble is not asked again.

        Raises CorruptBytes at once when the first is gone, so that no answer has begun yet; later on when another is.
        """
        open_ = partial(self._open, self._hasty if is_hasty else self._client)
        rest = iter(pieces)
        first = next(rest, None)
        response = await self._run(lambda: open_(first)) if first else None
        return self._chunks(_Reading(open_, response, rest))

    @property
    def is_public(self) -> bool:
        """Whether clients reach the store by themselves."""
        return self._public is not None

    async def links(self, keys: Sequence[str]) -> tuple[list[str], datetime]:
        """Addresses under which anybody may GET these objects, and until when. They are secrets: never log one."""
        assert self._public is not None
        sign = partial(self._public.get_presigned_url, "GET", self._bucket, expires=self._link_lasts)
        expires_at = datetime.now(UTC) + self._link_lasts
        return await anyio.to_thread.run_sync(lambda: [sign(key) for key in keys]), expires_at

    async def keys(self, prefix: str) -> list[str]:
        """All objects whose key begins with `prefix`."""
        return await self._run(lambda: self._keys(prefix))

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        listed = list(keys)
        if listed:
            await self._run(lambda: self._delete(listed))

    async def _chunks(self, reading: _Reading) -> AsyncIterator[bytes]:
        """The next chunk is read while the one before it is on its way out."""
        ahead = asyncio.create_task(self._once(reading.next))
        try:
            while chunk := await asyncio.shield(ahead):
                ahead = asyncio.create_task(self._once(reading.next))
                yield chunk
        finally:
            # Nothing is awaited, as whoever is cancelled here stays so: a thread that still reads closes when it ends.
            ahead.add_done_callback(reading.ended)

    async def _run(self, call: Callable[[], Result]) -> Result:
        """Every request may be sent twice: a key is written by one sender, with one content."""
        return await self._once(lambda: _again_when_cut(call))

    async def _once(self, call: Callable[[], Result]) -> Result:
        try:
            return await anyio.to_thread.run_sync(call, limiter=self._threads)
        except S3Error as error:
            if error.code in AWAY:
                raise DependencyAway("s3", f"The object store answered {error.code}.") from error
            raise
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise DependencyAway("s3") from error

    def _ensure_bucket(self) -> None:
        if not self._client.bucket_exists(self._bucket):
            self._client.make_bucket(self._bucket)

    def _put(self, key: str, data: bytes | memoryview) -> None:
        # The store's etag, an MD5 with some, is not compared: that would cost a second hash of everything. Commits ask
        # for all sizes, nothing whose sha256 is wrong is served, and scrubbing reads all.
        if self._is_on_this_host:
            url = self._client.get_presigned_url("PUT", self._bucket, key, expires=PUT_EXPIRES)
            response = self._pool.request("PUT", url, body=data)  # pyright: ignore[reportArgumentType] - any buffer will do
            if response.status != HTTPStatus.OK:
                raise _refused(response)
            return
        # One request however large it is: the client would cut it into parts of 5 MiB. A copy: it takes bytes only.
        part_size = max(len(data), MIN_PART_BYTES)
        self._client.put_object(self._bucket, key, io.BytesIO(data), len(data), part_size=part_size)

    def _size(self, key: str) -> int | None:
        try:
            return self._client.stat_object(self._bucket, key).size
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise

    def _open(self, client: Minio, piece: Piece) -> Any:
        try:
            return client.get_object(self._bucket, piece.key, offset=piece.offset, length=piece.length)
        except S3Error as error:
            if error.code in GONE:
                raise CorruptBytes("The object store has lost these bytes.") from error
            raise

    def _read(self, key: str) -> bytes:
        try:
            response = self._client.get_object(self._bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise FileNotFoundError(key) from error
            raise
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def _keys(self, prefix: str) -> list[str]:
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        return [item.object_name for item in found if item.object_name]

    def _delete(self, keys: list[str]) -> None:
        for error in self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys]):
            if error.code not in GONE:
                raise DependencyAway("s3", f"The object store could not delete: {error.code}.")


def _pool(*, status_tries: int) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=THREADS,
        timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        # A store that is short of something for a moment says so; what it is asked may be asked again.
        retries=urllib3.Retry(
            total=TRIES_AGAIN,
            connect=1,
            read=0,
            status=status_tries,
            status_forcelist=TROUBLE,
            allowed_methods=None,
            raise_on_status=False,  # so that its own words stay
            backoff_factor=BACKOFF_S,
            backoff_jitter=BACKOFF_S,
        ),
    )


def _client(settings: ApiSettings, pool: urllib3.PoolManager) -> Minio:
    return _client_of(settings, settings.s3_endpoint, is_secure=settings.s3_secure, pool=pool)


def _public_client(settings: ApiSettings) -> Minio | None:
    """It only signs: with the region given, that takes no request."""
    url = settings.s3_public_url
    if url is None:
        return None
    return _client_of(settings, f"{url.host}:{url.port}", is_secure=url.scheme == "https", pool=None)


def _client_of(settings: ApiSettings, endpoint: str, *, is_secure: bool, pool: urllib3.PoolManager | None) -> Minio:
    return Minio(
        endpoint,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=is_secure,
        region=settings.s3_region,
        http_client=pool,
    )


def _refused(response: urllib3.BaseHTTPResponse) -> MinioException:
    if b"<Code>" in response.data:
        return S3Error.fromxml(response)
    return MinioException(f"HTTP status {response.status}")


class _Reading:
    """Pieces of objects as one row of chunks, read by one thread at a time."""

    def __init__(self, open_piece: Callable[[Piece], Any], response: Any, rest: Iterator[Piece]) -> None:
        self._open, self._rest = open_piece, rest
        self._response = response
        self._chunks: Iterator[bytes] = response.stream(CHUNK_BYTES) if response else iter(())

    def next(self) -> bytes:
        """The next chunk; none left is an empty one."""
        while not (chunk := next(self._chunks, b"")):
            self.close()
            if (piece := next(self._rest, None)) is None:
                return b""
            self._response = _again_when_cut(lambda piece=piece: self._open(piece))
            self._chunks = self._response.stream(CHUNK_BYTES)
        return chunk

    def ended(self, last: asyncio.Task[bytes]) -> None:
        """Nobody wants more; what became of the last chunk is nobody's business any more."""
        if not last.cancelled():
            last.exception()
        self.close()

    def close(self) -> None:
        """Give the connection back; one that is in the middle of an answer is closed."""
        if self._response is not None:
            self._response.close()
            self._response.release_conn()
            self._response = None


def _again_when_cut(call: Callable[[], Result]) -> Result:
    """The store may close a connection that was idle at the moment it is used again; a new one will do."""
    try:
        return call()
    except urllib3.exceptions.MaxRetryError as error:
        if not isinstance(error.reason, urllib3.exceptions.ProtocolError):
            raise
    except urllib3.exceptions.ProtocolError:
        pass
    return call()
