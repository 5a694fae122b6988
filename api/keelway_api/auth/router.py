"""Tokens and whoami."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Depends, Response

from keelway.contracts.access import Role, Token, TokenCreate, TokenCreated, Whoami
from keelway.contracts.base import Page
from keelway_api.auth import service
from keelway_api.auth.dependencies import Caller, everywhere
from keelway_api.db import Session
from keelway_api.idempotency import Once

router = APIRouter(tags=["access"])
VERSION = version("keelway-api")  # read from disk each time it is asked for
admins = Depends(everywhere(Role.ADMIN))


@router.get("/whoami")
async def whoami(session: Session, caller: Caller) -> Whoami:
    """Who the API thinks you are, and what you may do."""
    grants = await service.grants_of(session, caller.token_id)
    return Whoami(id=caller.token_id, name=caller.name, grants=grants, keelway_version=VERSION)


@router.post("/tokens", status_code=201, response_model=TokenCreated, dependencies=[admins])
async def create_token(body: TokenCreate, session: Session, caller: Caller, once: Once) -> Response:
    """Make a token. Its secret is in this answer only: a repeated Idempotency-Key is refused, naming the token."""
    return await once.answer(session, 201, lambda: service.create_token(session, caller, body), secret=("secret",))


@router.get("/tokens", dependencies=[admins])
async def list_tokens(session: Session) -> Page[Token]:
    """All tokens that still count."""
    return Page(items=await service.list_tokens(session))


@router.delete("/tokens/{token_id}", status_code=204, dependencies=[admins])
async def revoke_token(token_id: str, session: Session, caller: Caller) -> None:
    """Revoke a token, at once."""
    await service.revoke_token(session, caller, token_id)
