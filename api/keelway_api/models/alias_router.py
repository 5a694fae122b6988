"""Aliases of a model's versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import AwareDatetime

from keelway.contracts.base import MODEL_NAME, Page
from keelway.contracts.models import Alias, AliasChange, AliasName, AliasSet
from keelway_api.auth.dependencies import Contributor, Reader
from keelway_api.db import Session
from keelway_api.models import aliases
from keelway_api.pagination import Paging
from keelway_api.preconditions import Precondition

router = APIRouter(prefix="/workspaces/{workspace}/models/{name}/aliases", tags=["models"])
Name = Annotated[str, Path(pattern=MODEL_NAME)]
At = Annotated[AwareDatetime | None, Query(description="who held it then, with a time zone")]


@router.get("")
async def list_aliases(name: Name, scope: Reader, session: Session) -> Page[Alias]:
    """All aliases of a model, by name."""
    return Page(items=await aliases.list_aliases(session, scope, name))


@router.put("/{alias}")
async def set_alias(
    name: Name,
    alias: AliasName,
    body: AliasSet,
    scope: Contributor,
    session: Session,
    precondition: Precondition,
    response: Response,
) -> Alias:
    """Have an alias name another version; If-Match is honoured."""
    held = await aliases.set_alias(session, scope, name, alias, body, precondition)
    response.headers["ETag"] = held.etag
    return held


@router.get("/{alias}")
async def show_alias(
    name: Name, alias: AliasName, scope: Reader, session: Session, response: Response, at: At = None
) -> Alias:
    """Which version an alias names, now or at some time in the past."""
    held = await aliases.get_alias(session, scope, name, alias, at)
    response.headers["ETag"] = held.etag
    return held


@router.delete("/{alias}", status_code=204)
async def remove_alias(
    name: Name, alias: AliasName, scope: Contributor, session: Session, precondition: Precondition
) -> None:
    """Take an alias away; its history stays."""
    await aliases.remove_alias(session, scope, name, alias, precondition)


@router.get("/{alias}/history")
async def alias_history(
    name: Name, alias: AliasName, scope: Reader, session: Session, paging: Paging
) -> Page[AliasChange]:
    """Every change of an alias, newest first: who moved it, when, from which version to which."""
    return await aliases.history(session, scope, name, alias, paging)
