"""Where the object store keeps a blob, for tests that damage it."""

from __future__ import annotations

import io

from keelway_standalone.s3 import BUCKET, S3


def keys_of(s3: S3, sha256: str) -> list[str]:
    """The objects of all parts of a blob, in their order."""
    prefix = f"blobs/sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}."
    found = s3.client().list_objects(BUCKET, prefix=prefix, recursive=True)
    return sorted(item.object_name for item in found if item.object_name)


def remove(s3: S3, sha256: str) -> str:
    """Take a small blob's object away; its key."""
    (key,) = keys_of(s3, sha256)
    s3.client().remove_object(BUCKET, key)
    return key


def write(s3: S3, key: str, data: bytes) -> None:
    """Put other bytes, or the right ones, behind our back."""
    s3.client().put_object(BUCKET, key, io.BytesIO(data), len(data))
