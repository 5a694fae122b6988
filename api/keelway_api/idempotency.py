"""Idempotency-Key: a POST that is sent twice has one effect, and both get the same answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import DateTime, LargeBinary, String, delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.errors import IdempotencyInFlight, IdempotencyMismatch, SecretShownOnce
from keelway_api.tables import Base, Created

KEEP = "48 hours"
LOCK_NOT_AVAILABLE = "55P03"


class IdempotencyTable(Base):
    """The answer to a key's first request, stored in the transaction of its effect."""

    __tablename__ = "idempotency_keys"

    token_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[str | None]
    created_at: Mapped[Created] = mapped_column(DateTime(timezone=True), index=True)


class OnceRequest:
    """The request's key, if it has one."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self.key = key

    async def answer(
        self,
        session: AsyncSession,
        status: int,
        effect: Callable[[], Awaitable[BaseModel]],
        *,
        headers: Callable[[Any], dict[str, str]] = lambda _: {},
        secret: tuple[str, ...] = (),
    ) -> Response:
        """Run `effect` and answer it, or repeat the answer that this key got before.

        Fields named in `secret` are never stored, so that such an answer, which must have an `id`, is not repeated:
        SecretShownOnce instead. Raises IdempotencyMismatch when the key belongs to another request,
        IdempotencyInFlight while the first one has not ended.
        """
        if self.key is None:
            made = await effect()
            return _json(status, made.model_dump_json(), headers(made))
        if not await self._reserve(session):
            return await self._replay(session, has_secret=bool(secret))
        made = await effect()
        sent = headers(made)
        row = await session.get_one(IdempotencyTable, self._id)
        row.status, row.headers, row.body = status, sent, made.model_dump_json(exclude=set(secret))
        return _json(status, made.model_dump_json(), sent)

    @property
    def _id(self) -> tuple[str, str]:
        assert self.key is not None
        return self._request.state.principal.token_id, self.key

    async def digest(self) -> bytes:
        """What tells this request from another with the same key."""
        start = f"{self._request.method} {self._request.scope['path']}?{self._request.url.query}\n".encode()
        return hashlib.sha256(start + await self._request.body()).digest()

    async def _reserve(self, session: AsyncSession) -> bool:
        """True when this request is the key's first. Waits for one that is running, but not for long."""
        token_id, key = self._id
        await session.execute(text("SET LOCAL lock_timeout = '2s'"))
        try:
            made = await session.scalar(
                insert(IdempotencyTable)
                .values(token_id=token_id, key=key, request_sha256=await self.digest())
                .on_conflict_do_nothing()
                .returning(IdempotencyTable.key)
            )
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                raise IdempotencyInFlight("The first request with this key is running.", headers=_later()) from error
            raise
        return made is not None

    async def _replay(self, session: AsyncSession, *, has_secret: bool) -> Response:
        row = await session.get_one(IdempotencyTable, self._id)
        if row.request_sha256 != await self.digest():
            raise IdempotencyMismatch("This key was used for another request.")
        if row.status is None or row.body is None:
            raise IdempotencyInFlight("The first request with this key has not ended.", headers=_later())
        if has_secret:
            raise SecretShownOnce(json.loads(row.body)["id"])
        return _json(row.status, row.body, {**(row.headers or {}), "Idempotency-Replayed": "true"})


async def get_once(
    request: Request, idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None
) -> OnceRequest:
    """The request, with its key."""
    return OnceRequest(request, idempotency_key)


Once = Annotated[OnceRequest, Depends(get_once)]


async def forget_old(session: AsyncSession) -> None:
    """Drop keys that nobody will send again."""
    age = func.now() - IdempotencyTable.created_at
    await session.execute(delete(IdempotencyTable).where(age > text(f"interval '{KEEP}'")))


def _later() -> dict[str, str]:
    return {"Retry-After": "1"}


def _json(status: int, body: str, headers: dict[str, str]) -> Response:
    return Response(body, status, headers=headers, media_type="application/json")
