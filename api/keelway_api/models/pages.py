"""Pages of lists as they were last written: one that still shows what it showed then is not written again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from keelway.contracts.access import Role
from keelway_api import documents
from keelway_api.auth.dependencies import in_workspace
from keelway_api.statements import Statement, Statements

MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class WrittenPage:
    """The body of an answer, and the marks of the rows that it shows: other marks mean another body.

    `statement` gives, for `values`, the marks that those rows have now.
    """

    marks: str
    body: bytes
    statement: Statement
    values: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        return len(self.marks) + len(self.body) + len(repr(self.values)) + 1024

    async def is_unchanged(self, statements: Statements) -> bool:
        """Whether its rows are what they were."""
        return await statements.row(self.statement, self.values) == (self.marks,)


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


class PlaceOfPage:
    """Where the page that a request asks for is kept: by the address, as it came, for who reads that workspace."""

    def __init__(self, request: Request) -> None:
        scope = request.scope
        self._pages: WrittenPages = request.app.state.pages
        self._asked = request.state.workspace_id, scope["path"], scope["query_string"]

    def find(self) -> WrittenPage | None:
        """What was written for the same request."""
        return self._pages.find(self._asked)

    def keep(self, page: WrittenPage) -> None:
        """Keep it for the next one."""
        self._pages.keep(self._asked, page)


async def get_place(request: Request) -> PlaceOfPage:
    """The place for the page that the request asks for."""
    return PlaceOfPage(request)


KeptPage = Annotated[PlaceOfPage, Depends(get_place)]
check_reader = in_workspace(Role.READER)


class ListRoute(APIRoute):
    """A list whose page, asked for again, is found before the query is read again: that takes longer than the page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI has it, behind a look at what is kept."""
        write = super().get_route_handler()

        async def answer(request: Request) -> Response:
            await check_reader(request.path_params["workspace"], request, request.state.principal)
            written = PlaceOfPage(request).find()
            if written and await written.is_unchanged(request.app.state.statements):
                return documents.answer(written.body)
            return await write(request)

        return answer
