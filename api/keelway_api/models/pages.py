"""Pages of lists as they were last written: one that still shows what it showed then is not written again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class WrittenPage:
    """The body of an answer, and the marks of the rows that it shows: other marks mean another body."""

    marks: str
    body: bytes

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        return len(self.marks) + len(self.body) + 1024


class WrittenPages:
    """The pages that were asked for last, up to `max_bytes` of them.

    None is passed on before its marks were compared with those that the database has now.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._size_bytes = max_bytes, 0
        self._pages: OrderedDict[bytes, WrittenPage] = OrderedDict()

    def find(self, asked: Hashable) -> WrittenPage | None:
        """What was written when the same was asked for."""
        key = _key(asked)
        found = self._pages.get(key)
        if found:
            self._pages.move_to_end(key)
        return found

    def keep(self, asked: Hashable, page: WrittenPage) -> None:
        """Keep a page in place of the one before it, and of those that nobody asked for since."""
        key = _key(asked)
        self._drop(self._pages.pop(key, None))
        self._pages[key] = page
        self._size_bytes += page.size_bytes
        while self._size_bytes > self._max_bytes:
            self._drop(self._pages.popitem(last=False)[1])

    def _drop(self, page: WrittenPage | None) -> None:
        self._size_bytes -= page.size_bytes if page else 0


def _key(asked: Hashable) -> bytes:
    """Of one size: filters can be far larger than the page that they give."""
    return hashlib.sha256(repr(asked).encode()).digest()


async def get_pages(request: Request) -> WrittenPages:
    """The API's pages."""
    return request.app.state.pages


KeptPages = Annotated[WrittenPages, Depends(get_pages)]
