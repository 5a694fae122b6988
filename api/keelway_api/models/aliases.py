"""Aliases: names that move from version to version, and the history of every move."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.base import Page
from keelway.contracts.models import Alias, AliasChange, AliasSet
from keelway_api.auth.dependencies import Scope
from keelway_api.errors import NotFound
from keelway_api.models import queries, service
from keelway_api.models.tables import AliasHistoryTable, AliasTable, ModelVersionTable
from keelway_api.pagination import PageRequest
from keelway_api.preconditions import Precondition

H = AliasHistoryTable


async def set_alias(
    session: AsyncSession, scope: Scope, name: str, alias: str, body: AliasSet, precondition: Precondition
) -> Alias:
    """Have an alias name a ready version. Setting what is set changes nothing.

    Raises NotFound, WrongState, PreconditionFailed.
    """
    model = await queries.model(session, scope.workspace_id, name, is_locked=True)
    row = await queries.version(session, scope.workspace_id, name, str(body.version), lock="use")
    service.require_ready(row)
    version = row[0]
    held = await session.get(AliasTable, (model.id, alias))
    precondition.check(_etag(held) if held else None)
    if held and held.version_id == version.id:
        return _alias(held, name, version.version)
    before = await _number_of(session, held) if held else None
    change = await _note(session, scope, alias, version, before=before, after=version.version)
    if held is None:
        held = AliasTable(model_id=model.id, alias=alias)
        session.add(held)
    held.version_id, held.since, held.by, held.change_id = version.id, change.at, change.by, change.id
    await session.flush()
    return _alias(held, name, version.version)


async def remove_alias(session: AsyncSession, scope: Scope, name: str, alias: str, precondition: Precondition) -> None:
    """Take an alias away; its history stays. Raises NotFound, PreconditionFailed."""
    model = await queries.model(session, scope.workspace_id, name, is_locked=True)
    held = await session.get(AliasTable, (model.id, alias))
    if held is None:
        raise NotFound("alias", alias)
    precondition.check(_etag(held))
    version = await session.get_one(ModelVersionTable, held.version_id)
    await session.execute(delete(AliasTable).where(AliasTable.model_id == model.id, AliasTable.alias == alias))
    await _note(session, scope, alias, version, before=version.version, after=None)


async def _note(
    session: AsyncSession,
    scope: Scope,
    alias: str,
    version: ModelVersionTable,
    *,
    before: int | None,
    after: int | None,
) -> AliasHistoryTable:
    change = {"from_version": before, "to_version": after}
    # The clock and not the transaction's time: that one began before the lock was waited for.
    at = func.clock_timestamp()
    added = insert(H).values(model_id=version.model_id, alias=alias, by=scope.principal.name, at=at, **change)
    row = (await session.scalars(added.returning(H))).one()
    action = "model.alias.set" if after else "model.alias.remove"
    await service.record(session, scope, action, version, alias=alias, **change)
    await service.announce(session, "model.alias-moved", version, alias=alias, **change)
    return row


async def get_alias(session: AsyncSession, scope: Scope, name: str, alias: str, at: datetime | None) -> Alias:
    """Which version an alias names, now or at some time in the past. Raises NotFound."""
    model = await queries.model(session, scope.workspace_id, name)
    if at is not None:
        return await _held_at(session, model.id, name, alias, at)
    found = await _aliases(session, model.id, name, alias)
    if not found:
        raise NotFound("alias", alias)
    return found[0]


async def list_aliases(session: AsyncSession, scope: Scope, name: str) -> list[Alias]:
    """All aliases of a model, by name. Raises NotFound."""
    model = await queries.model(session, scope.workspace_id, name)
    return await _aliases(session, model.id, name)


async def history(session: AsyncSession, scope: Scope, name: str, alias: str, paging: PageRequest) -> Page[AliasChange]:
    """Every change of an alias, newest first. Raises NotFound when there was none."""
    model = await queries.model(session, scope.workspace_id, name)
    wanted = select(H).where(H.model_id == model.id, H.alias == alias)
    before = paging.after_int()
    if before is not None:
        wanted = wanted.where(H.id < before)
    rows: Sequence[H] = (await session.scalars(wanted.order_by(H.id.desc()).limit(paging.limit + 1))).all()
    if not rows and before is None:
        raise NotFound("alias", alias)
    page = paging.page(rows, lambda row: row.id)
    changes = [
        AliasChange(alias=row.alias, from_version=row.from_version, to_version=row.to_version, at=row.at, by=row.by)
        for row in page.items
    ]
    return Page(items=changes, next_page_token=page.next_page_token)


async def _held_at(session: AsyncSession, model_id, name: str, alias: str, at: datetime) -> Alias:
    wanted = select(H).where(H.model_id == model_id, H.alias == alias, H.at <= at).order_by(H.id.desc()).limit(1)
    row = await session.scalar(wanted)
    if row is None or row.to_version is None:
        raise NotFound("alias", f"{alias} at {at.isoformat()}")
    return Alias(alias=alias, model=name, version=row.to_version, since=row.at, by=row.by, etag=f'"{row.id}"')


async def _aliases(session: AsyncSession, model_id, name: str, alias: str | None = None) -> list[Alias]:
    wanted = (
        select(AliasTable, ModelVersionTable.version)
        .join(ModelVersionTable, ModelVersionTable.id == AliasTable.version_id)
        .where(AliasTable.model_id == model_id)
        .order_by(AliasTable.alias)
    )
    if alias is not None:
        wanted = wanted.where(AliasTable.alias == alias)
    return [_alias(held, name, version) for held, version in (await session.execute(wanted)).tuples()]


async def _number_of(session: AsyncSession, held: AliasTable) -> int:
    return (await session.get_one(ModelVersionTable, held.version_id)).version


def _alias(held: AliasTable, name: str, version: int) -> Alias:
    return Alias(alias=held.alias, model=name, version=version, since=held.since, by=held.by, etag=_etag(held))


def _etag(held: AliasTable) -> str:
    return f'"{held.change_id}"'
