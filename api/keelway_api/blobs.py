"""The object store: bytes by sha256, written once, verified on the way in and on the way out.

The only file that knows the S3 client. The client is synchronous, so every call runs in a thread of its own pool.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from keelway_api.errors import CorruptBytes, DependencyAway, DigestMismatch
from keelway_api.settings import ApiSettings

PART_BYTES = 8 * 2**20
PARTS_AT_ONCE = 2  # each holds a part in memory
CHUNK_BYTES = 2**20
CONNECT_S, READ_S = 2.0, 30.0
THREADS = 32
AWAY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"}
Result = TypeVar("Result")


def blob_key(sha256: str) -> str:
    """Where a blob lies in the bucket."""
    return f"blobs/sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"


class BlobStore:
    """Content-addressed bytes in one bucket. Raises DependencyAway when the store cannot be reached."""

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

    async def put(self, sha256: str, size_bytes: int, body: AsyncIterator[bytes]) -> None:
        """Store `body` under its digest, in flat memory.

        Raises DigestMismatch when size or sha256 differ: the upload is aborted and nothing is stored.
        """
        feed = _VerifiedFeed(body, sha256=sha256, size_bytes=size_bytes)
        await self._run(lambda: self._put(blob_key(sha256), feed, size_bytes))

    async def put_text(self, key: str, text: str) -> None:
        """Store a small text under a key of its own."""
        data = text.encode()
        await self._run(lambda: self._put(key, io.BytesIO(data), len(data)))

    async def get_text(self, key: str) -> str:
        """A small text. Raises FileNotFoundError."""
        return (await self._run(lambda: self._read(key))).decode()

    async def size(self, sha256: str) -> int | None:
        """Size in bytes of a blob in the store; None when it is not there."""
        return await self._run(lambda: self._size(blob_key(sha256)))

    async def open(self, sha256: str, *, offset: int, length: int) -> AsyncIterator[bytes]:
        """Chunks of a blob. Raises CorruptBytes now when it is gone, so that no answer has begun yet."""
        response = await self._run(lambda: self._open(blob_key(sha256), offset, length))
        return self._chunks(response)

    async def _chunks(self, response: Any) -> AsyncIterator[bytes]:
        chunks: Iterator[bytes] = response.stream(CHUNK_BYTES)
        try:
            while chunk := await self._run(lambda: next(chunks, b"")):
                yield chunk
        finally:
            response.close()
            response.release_conn()

    async def _run(self, call: Callable[[], Result]) -> Result:
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

    def _put(self, key: str, data: Any, size_bytes: int) -> None:
        if size_bytes == 0 and hasattr(data, "finish"):
            data.finish()  # nothing is ever read of it: check before an empty object takes the place of a good one
        self._client.put_object(
            self._bucket, key, data, size_bytes, part_size=PART_BYTES, num_parallel_uploads=PARTS_AT_ONCE
        )

    def _size(self, key: str) -> int | None:
        try:
            return self._client.stat_object(self._bucket, key).size
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise

    def _open(self, key: str, offset: int, length: int) -> Any:
        try:
            return self._client.get_object(self._bucket, key, offset=offset, length=length)
        except S3Error as error:
            if error.code in {"NoSuchKey", "InvalidRange"}:
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


class _VerifiedFeed:
    """A blocking file-like over an async body, for a worker thread; refuses at the last byte when the digest is wrong.

    The store's client aborts an upload whose reader raises, so that wrong bytes never become an object.
    """

    def __init__(self, body: AsyncIterator[bytes], *, sha256: str, size_bytes: int) -> None:
        self._body = body
        self._expected = sha256
        self._left = size_bytes
        self._size_bytes = size_bytes
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._checked = False

    def read(self, n: int = -1) -> bytes:
        """The next `n` bytes, fewer only at the end. Raises DigestMismatch."""
        wanted = self._left if n < 0 else min(n, self._left)
        while len(self._buffer) < wanted:
            chunk = self._pull()
            if not chunk:
                raise self._mismatch("fewer bytes than announced")
            self._buffer += chunk
        piece = bytes(self._buffer[:wanted])
        del self._buffer[:wanted]
        self._hash.update(piece)
        self._left -= len(piece)
        if self._left == 0 and not self._checked:
            self.finish()
        return piece

    def finish(self) -> None:
        """Check length and digest once everything was read. Raises DigestMismatch."""
        if self._checked:
            return
        if self._buffer or self._pull():
            raise self._mismatch("more bytes than announced")
        if self._hash.hexdigest() != self._expected:
            raise self._mismatch("another sha256", actual=self._hash.hexdigest())
        self._checked = True

    def _pull(self) -> bytes:
        async def next_chunk() -> bytes:
            async for chunk in self._body:
                if chunk:
                    return chunk
            return b""

        return anyio.from_thread.run(next_chunk)

    def _mismatch(self, what: str, *, actual: str | None = None) -> DigestMismatch:
        return DigestMismatch(
            f"The body has {what}.", expected=self._expected, actual=actual, size_bytes=self._size_bytes
        )


async def verified(chunks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """The same chunks, the last held back until the digest of all is right. Raises CorruptBytes otherwise.

    The answer has begun by then: raising cuts the connection, so the caller sees a short body and never a wrong one.
    """
    digest, held = hashlib.sha256(), b""
    async for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != sha256:
        raise CorruptBytes("Stored bytes do not have their sha256.", expected=sha256, actual=digest.hexdigest())
    if held:
        yield held
