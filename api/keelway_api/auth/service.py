"""Tokens: made, found, revoked."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import String, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Grant, Role, Token, TokenCreate, TokenCreated
from keelway_api.audit import service as audit
from keelway_api.auth.principal import Principal
from keelway_api.auth.secrets import TokenSecret
from keelway_api.auth.tables import GrantTable, TokenTable
from keelway_api.errors import NotFound, Unauthenticated
from keelway_api.statements import Statements, compiled
from keelway_api.workspaces import service as workspaces
from keelway_api.workspaces.tables import WorkspaceTable

LAST_USED_EVERY = timedelta(minutes=1)  # not a write on every request
REFUSED = "The token is unknown, expired or revoked."


GRANTS = (
    select(func.json_agg(func.json_build_array(GrantTable.role, GrantTable.workspace_id)))
    .where(GrantTable.token_id == TokenTable.id)
    .scalar_subquery()
)
WORKSPACE = select(WorkspaceTable.id).where(WorkspaceTable.name == bindparam("workspace", type_=String))
KNOWN = (TokenTable.name, TokenTable.secret_sha256, TokenTable.revoked_at, TokenTable.expires_at)
FIND = compiled(
    select(*KNOWN, TokenTable.last_used_at, GRANTS, WORKSPACE.scalar_subquery()).where(
        TokenTable.id == bindparam("id", type_=String)
    )
)
USED = compiled(
    update(TokenTable).where(TokenTable.id == bindparam("id_", type_=String)).values(last_used_at=func.now())
)


async def authenticate(
    statements: Statements, header: str | None, workspace: str | None
) -> tuple[Principal, UUID | None]:
    """The principal behind an Authorization header, and the id of the workspace of that name, if there is one.

    Raises Unauthenticated, with one text for every way it is wrong.
    """
    scheme, _, credentials = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not credentials:
        raise Unauthenticated("Send 'Authorization: Bearer <token>'.")
    secret = TokenSecret.parse(credentials.strip())
    row = await statements.row(FIND, {"id": secret.id, "workspace": workspace}) if secret else None
    if secret is None or row is None:
        raise Unauthenticated(REFUSED)
    name, stored, revoked_at, expires_at, last_used_at, grants, workspace_id = row
    now = datetime.now(UTC)
    if not hmac.compare_digest(stored, secret.sha256) or revoked_at is not None or (expires_at and expires_at <= now):
        raise Unauthenticated(REFUSED)
    if last_used_at is None or now - last_used_at > LAST_USED_EVERY:
        await statements.rows(USED, {"id_": secret.id})
    held = tuple((Role(role), UUID(where) if where else None) for role, where in grants or ())
    return Principal(secret.id, name, held), workspace_id


async def ensure_token(session: AsyncSession, text: str, *, name: str, role: Role) -> None:
    """A token from the settings exists with this role everywhere; starting twice changes nothing."""
    secret = TokenSecret.parse(text)
    if secret is None:
        raise ValueError(f"the {name} token must look like kw_<12 hex digits>_<43 url-safe characters>")
    values = {"secret_sha256": secret.sha256, "name": name, "revoked_at": None}
    await session.execute(
        insert(TokenTable)
        .values(id=secret.id, created_by="settings", **values)
        .on_conflict_do_update(index_elements=["id"], set_=values)
    )
    await session.execute(
        insert(GrantTable).values(token_id=secret.id, workspace_id=None, role=role).on_conflict_do_nothing()
    )


async def create_token(session: AsyncSession, principal: Principal, body: TokenCreate) -> TokenCreated:
    """A new token; its secret is shown in this answer only."""
    secret = TokenSecret.new()
    expires = datetime.now(UTC) + timedelta(seconds=body.expires_in_s) if body.expires_in_s else None
    row = TokenTable(
        id=secret.id, secret_sha256=secret.sha256, name=body.name, created_by=principal.name, expires_at=expires
    )
    session.add(row)
    await session.flush()
    for grant in {(grant.role, grant.workspace) for grant in body.grants}:
        role, name = grant
        workspace = await workspaces.find(session, name) if name else None
        session.add(GrantTable(token_id=row.id, role=role, workspace_id=workspace.id if workspace else None))
    await session.refresh(row)
    await audit.record(session, principal, "token.create", f"tokens/{row.id}", name=body.name)
    return TokenCreated(**(await _token(session, row)).model_dump(), secret=secret.text)


async def list_tokens(session: AsyncSession) -> list[Token]:
    """All tokens that still count, newest first."""
    rows = await session.scalars(
        select(TokenTable)
        .where(
            TokenTable.revoked_at.is_(None), or_(TokenTable.expires_at.is_(None), TokenTable.expires_at > func.now())
        )
        .order_by(TokenTable.created_at.desc())
    )
    return [await _token(session, row) for row in rows]


async def revoke_token(session: AsyncSession, principal: Principal, token_id: str) -> None:
    """From the next request on the token does not count."""
    row = await session.get(TokenTable, token_id)
    if row is None or row.revoked_at is not None:
        raise NotFound("token", token_id)
    row.revoked_at = datetime.now(UTC)
    await session.execute(delete(GrantTable).where(GrantTable.token_id == token_id))
    await audit.record(session, principal, "token.revoke", f"tokens/{token_id}", name=row.name)


async def grants_of(session: AsyncSession, token_id: str) -> list[Grant]:
    """The grants of a token, with the names of their workspaces."""
    found = await session.execute(
        select(GrantTable.role, GrantTable.workspace_id).where(GrantTable.token_id == token_id)
    )
    pairs = [(role, workspace) for role, workspace in found]
    ids: list[UUID] = [workspace for _, workspace in pairs if workspace is not None]
    names = await workspaces.names_of(session, ids)
    return [Grant(role=Role(role), workspace=names[where] if where else None) for role, where in pairs]


async def _token(session: AsyncSession, row: TokenTable) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        grants=await grants_of(session, row.id),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
