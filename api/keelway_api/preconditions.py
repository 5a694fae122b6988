"""If-Match: change a resource only while it is what the caller saw (RFC 9110, 13.1.1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header

from keelway_api.errors import PreconditionFailed


class IfMatch:
    """The request's precondition, if it has one. To be checked on the locked row, before anything changes."""

    def __init__(self, if_match: str | None) -> None:
        self._tags = None if if_match is None else {tag.strip() for tag in if_match.split(",")}

    def check(self, etag: str | None) -> None:
        """Raises PreconditionFailed when the caller saw another state than that of `etag`.

        None stands for what is not there.
        """
        if self._tags is not None and (etag is None or not self._tags & {"*", etag}):
            raise PreconditionFailed(f"Its etag is {etag}, which If-Match does not name.", etag=etag)


async def get_precondition(if_match: Annotated[str | None, Header(max_length=1024)] = None) -> IfMatch:
    """The request's If-Match."""
    return IfMatch(if_match)


Precondition = Annotated[IfMatch, Depends(get_precondition)]
