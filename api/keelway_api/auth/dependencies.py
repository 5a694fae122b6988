"""What handlers ask for: the caller, and the workspace they may work in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from keelway.contracts.access import Role
from keelway_api.auth.principal import Principal
from keelway_api.errors import Forbidden, NotFound


@dataclass(frozen=True)
class Scope:
    """A workspace, and the principal who works in it."""

    workspace_id: UUID
    workspace: str
    principal: Principal


async def get_caller(request: Request) -> Principal:
    """The principal that the edge authenticated: no route is reached without one."""
    return request.state.principal


Caller = Annotated[Principal, Depends(get_caller)]


def everywhere(role: Role) -> Callable[[Principal], Awaitable[None]]:
    """A dependency: the caller holds `role` in every workspace. Forbidden otherwise."""

    async def check(caller: Caller) -> None:
        if not caller.may(role, None):
            raise Forbidden(f"This needs the role {role}.")

    return check


def in_workspace(role: Role) -> Callable[[str, Request, Principal], Awaitable[Scope]]:
    """A dependency: the workspace of the path, when the caller holds `role` in it.

    Raises NotFound for one the caller may not see, Forbidden when the role is too low.
    """

    async def resolve(workspace: str, request: Request, caller: Caller) -> Scope:
        found: UUID | None = request.state.workspace_id  # the edge looked, together with the token
        if found is None or not caller.sees(found):
            raise NotFound("workspace", workspace)
        if not caller.may(role, found):
            raise Forbidden(f"This needs the role {role} in workspace {workspace!r}.")
        return Scope(found, workspace, caller)

    return resolve


Reader = Annotated[Scope, Depends(in_workspace(Role.READER))]
Contributor = Annotated[Scope, Depends(in_workspace(Role.CONTRIBUTOR))]
Deployer = Annotated[Scope, Depends(in_workspace(Role.DEPLOYER))]
Admin = Annotated[Scope, Depends(in_workspace(Role.ADMIN))]
