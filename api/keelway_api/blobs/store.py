"""The object store. The only file that knows the S3 client.

The client is synchronous, so every call runs in a thread of its own pool.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
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
AWAY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"}
GONE = {"NoSuchKey", "InvalidRange"}
Result = TypeVar("Result")


class BlobStore:
    """Objects in one bucket. Raises DependencyAway when the store cannot be reached."""

    def __init__(self, settings: ApiSettings) -> None:
        self._bucket = settings.s3_bucket
        pool = urllib3.PoolManager(
            maxsize=THREADS,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
            retries=urllib3.Retry(total=1, connect=1, read=0, backoff_factor=0.1, status_forcelist=[]),
        )
        self._client = Minio(
            settings.s3_endpoint,
            access_key=settings.s3_access_key.get_secret_value(),
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=settings.s3_secure,
            region=settings.s3_region,
            http_client=pool,
        )
        self._threads = anyio.CapacityLimiter(THREADS)

    async def check(self) -> None:
        """Make the bucket when it is not there."""
        await self._run(self._ensure_bucket)

    async def put(self, key: str, data: bytes) -> None:
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

    async def open(self, pieces: Iterable[Piece]) -> AsyncIterator[bytes]:
        """Chunks of these pieces, one after the other.

        Raises CorruptBytes at once when the first is gone, so that no answer has begun yet; later on when another is.
        """
        rest = iter(pieces)
        first = next(rest, None)
        response = await self._run(lambda: self._open(first)) if first else None
        return self._chunks(response, rest)

    async def keys(self, prefix: str) -> list[str]:
        """All objects whose key begins with `prefix`."""
        return await self._run(lambda: self._keys(prefix))

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        listed = list(keys)
        if listed:
            await self._run(lambda: self._delete(listed))

    async def _chunks(self, response: Any, rest: Iterator[Piece]) -> AsyncIterator[bytes]:
        while response is not None:
            chunks: Iterator[bytes] = response.stream(CHUNK_BYTES)
            try:
                while chunk := await self._once(lambda chunks=chunks: next(chunks, b"")):
                    yield chunk
            finally:
                response.close()
                response.release_conn()
            piece = next(rest, None)
            response = await self._run(lambda piece=piece: self._open(piece)) if piece else None

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

    def _put(self, key: str, data: bytes) -> None:
        # One request however large it is: the client would cut it into parts of 5 MiB.
        part_size = max(len(data), MIN_PART_BYTES)
        self._client.put_object(self._bucket, key, io.BytesIO(data), len(data), part_size=part_size)

    def _size(self, key: str) -> int | None:
        try:
            return self._client.stat_object(self._bucket, key).size
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise

    def _open(self, piece: Piece) -> Any:
        try:
            return self._client.get_object(self._bucket, piece.key, offset=piece.offset, length=piece.length)
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
