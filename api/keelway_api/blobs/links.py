"""Bytes on their way out past the API: signed addresses of a file's parts in the object store."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import Response

from keelway.contracts.files import FileLinks, PartLink
from keelway_api.blobs.objects import StoredFile
from keelway_api.blobs.store import BlobStore

LINKS_AT_ONCE = 256  # 2 GiB of parts, in an answer of 150 KiB

Offset = Annotated[int, Query(ge=0, lt=2**63)]


async def file_links(store: BlobStore, file: StoredFile, offset: int, response: Response) -> FileLinks:
    """The parts of a file from the one on that `offset` lies in, in an answer that nobody may keep.

    Whoever has a link may read that part until it expires, whatever becomes of their token.
    """
    response.headers["Cache-Control"] = "no-store"
    links = FileLinks(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256, parts=[])
    if not store.is_public or offset >= file.size_bytes:
        return links
    first = offset // file.blob.part_bytes
    keys = file.blob.keys[first : first + LINKS_AT_ONCE]
    urls, links.expires_at = await store.links(keys)
    links.parts = [_part(file, first + number, url) for number, url in enumerate(urls)]
    return links


def _part(file: StoredFile, number: int, url: str) -> PartLink:
    offset = number * file.blob.part_bytes
    return PartLink(url=url, offset=offset, size_bytes=min(file.blob.part_bytes, file.size_bytes - offset))
