"""Routes: Traefik's dynamic configuration, made of what serves now."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from keelway_api.services.tables import ReplicaTable, RevisionTable, ServiceTable
from keelway_api.workspaces import service as workspaces

# Traefik skips a configuration that holds nothing at all, and would go on routing to the last service ever deleted.
NEVER_EMPTY = {"keelway": {"stripPrefix": {"prefixes": ["/keelway-routes-are-loaded"]}}}
PATHS = ("/score", "/swagger.json", "/", "")


async def routes(session: AsyncSession) -> tuple[str, dict[str, Any]]:
    """An etag and the configuration: for every service with traffic, the addresses of its replicas.

    A service whose replicas are all away keeps its last addresses: its callers then get 502 from the gateway, which
    is the truth, instead of the 404 of a name that does not exist.
    """
    wanted = (
        select(ServiceTable, RevisionTable, ReplicaTable)
        .join(RevisionTable, RevisionTable.service_id == ServiceTable.id)
        .join(ReplicaTable, ReplicaTable.revision_id == RevisionTable.id)
        .where(RevisionTable.traffic > 0, ReplicaTable.is_wanted, ReplicaTable.url.is_not(None))
        .order_by(ServiceTable.id, ReplicaTable.name)
    )
    rows = (await session.execute(wanted)).tuples().all()
    names = await workspaces.names_of(session, list({service.workspace_id for service, _, _ in rows}))
    routers: dict[str, Any] = {}
    services: dict[str, Any] = {}
    middlewares: dict[str, Any] = dict(NEVER_EMPTY)
    for service in {row[0].id: row[0] for row in rows}.values():
        key = f"{service.name}-{service.id.hex}"
        prefix = f"/{names[service.workspace_id]}/{service.name}"
        routers[key] = {
            "rule": " || ".join(f"Path(`{prefix}{path}`)" for path in PATHS),
            "service": key,
            "middlewares": [key],
        }
        middlewares[key] = {"stripPrefix": {"prefixes": [prefix]}}
        services[key] = {"loadBalancer": {"servers": _servers([row[2] for row in rows if row[0].id == service.id])}}
    http = {"routers": routers, "services": services, "middlewares": middlewares}
    configuration = {"http": {name: value for name, value in http.items() if value}}
    return _etag(configuration), configuration


def _servers(replicas: list[ReplicaTable]) -> list[dict[str, str]]:
    ready = [replica for replica in replicas if replica.state == "ready"]
    return [{"url": replica.url} for replica in ready or replicas if replica.url]


def _etag(configuration: dict[str, Any]) -> str:
    text = json.dumps(configuration, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
