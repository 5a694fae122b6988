"""Workspaces, tokens and roles."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from keelway.contracts.base import Answer, Description, Request, WorkspaceName

MAX_LIFE_S = 10 * 365 * 86_400  # of a token that is not meant to live for ever


class Role(StrEnum):
    """What a token may do in a workspace. Each of the first four includes those before it."""

    READER = "reader"
    CONTRIBUTOR = "contributor"
    DEPLOYER = "deployer"
    ADMIN = "admin"
    WORKER = "worker"
    GATEWAY = "gateway"


class RefuseFindings(StrEnum):
    """From which severity on findings in a version's files keep it from being deployed."""

    NONE = "none"
    WARNING = "warning"
    DANGER = "danger"


class Policies(Answer):
    """What holds for all of a workspace."""

    refuse_findings: RefuseFindings = RefuseFindings.NONE


class PoliciesUpdate(Request):
    """Policies that change; those that are not given stay."""

    refuse_findings: RefuseFindings | None = None


class WorkspaceUpdate(Request):
    """What changes of a workspace; what is not given stays."""

    description: Description | None = None
    policies: PoliciesUpdate | None = None


class WorkspaceCreate(Request):
    """A new workspace."""

    name: WorkspaceName
    description: Description = ""


class Workspace(Answer):
    """The tenant boundary."""

    name: str
    description: str
    policies: Policies = Field(default_factory=Policies)
    created_at: datetime
    created_by: str


class Grant(Request):
    """A role in one workspace, or in all of them when `workspace` is absent."""

    role: Role
    workspace: WorkspaceName | None = None


class TokenCreate(Request):
    """A new token with its roles; at least one."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    grants: Annotated[list[Grant], Field(min_length=1, max_length=64)]
    expires_in_s: Annotated[int, Field(gt=0, le=MAX_LIFE_S)] | None = None


class Token(Answer):
    """A token without its secret."""

    id: str
    name: str
    grants: list[Grant]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class TokenCreated(Token):
    """The only answer that carries the secret."""

    secret: str


class Whoami(Answer):
    """Who the API thinks you are."""

    id: str
    name: str
    grants: list[Grant]
    keelway_version: str


class AuditEntry(Answer):
    """One accepted change: who did what to which object."""

    id: int
    at: datetime
    workspace: str | None
    actor: str
    action: str
    subject: str
    request_id: str
    detail: dict[str, object] = Field(default_factory=dict)
