"""The API as a whole: reading create_app shows the service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import structlog
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.access import Role
from keelway_api import errors, outbox
from keelway_api.audit.router import router as audit
from keelway_api.auth import service as auth
from keelway_api.auth.router import router as access
from keelway_api.bell import Bell
from keelway_api.blobs.store import BlobStore
from keelway_api.blobs.turns import Turns
from keelway_api.clock import Clock
from keelway_api.db import create_engine, create_sessions
from keelway_api.edge import Edge
from keelway_api.environments import curated
from keelway_api.environments.router import router as environments
from keelway_api.experiments.router import router as experiments
from keelway_api.gateway.router import router as gateway
from keelway_api.health.router import router as health
from keelway_api.health.service import own_version
from keelway_api.images.router import router as images
from keelway_api.images.worker_router import router as image_work
from keelway_api.inspections.router import router as inspections
from keelway_api.inspections.service import restart_due
from keelway_api.manifests.router import router as blobs
from keelway_api.models.alias_router import router as aliases
from keelway_api.models.integrity import judge
from keelway_api.models.pages import WrittenPages
from keelway_api.models.router import router as models
from keelway_api.nodes.router import router as nodes
from keelway_api.operations.router import router as operations
from keelway_api.packages.router import router as packages
from keelway_api.query import learn_parameters, refuse_unknown
from keelway_api.services.deployment import Deployments
from keelway_api.services.observation import refresh_all
from keelway_api.services.router import router as services
from keelway_api.services.worker_router import router as service_work
from keelway_api.settings import ApiSettings
from keelway_api.snapshots.router import router as snapshots
from keelway_api.statements import Statements
from keelway_api.upkeep.router import router as upkeep
from keelway_api.upkeep.service import Upkeep
from keelway_api.workspaces import service as workspaces_service
from keelway_api.workspaces.router import router as workspaces

log = structlog.get_logger()

FEATURES = (
    workspaces,
    models,
    aliases,
    inspections,
    experiments,
    snapshots,
    environments,
    images,
    packages,
    services,
    operations,
    service_work,
    image_work,
    nodes,
    blobs,
    gateway,
    access,
    audit,
    upkeep,
)


def create_app(settings: ApiSettings) -> FastAPI:
    """The API with its background work: the bell, the relay and the clock run while it does."""
    engine = create_engine(settings)
    app = FastAPI(
        title="Keelway",
        version=own_version(),
        description="Model registry and deployment control plane.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # a route like all others instead, in health
        dependencies=[Depends(refuse_unknown)],
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.is_bootstrapped = False
    app.state.engine = engine
    app.state.sessions = create_sessions(engine)
    app.state.statements = Statements(settings.database_url.get_secret_value())
    app.state.pages = WrittenPages()
    app.state.blobs = BlobStore(settings)
    app.state.turns = Turns(
        settings.uploads_at_once, settings.upload_idle_s, min_bytes_per_s=settings.upload_min_bytes_per_s
    )
    app.state.bell = Bell(settings.database_url.get_secret_value())
    app.state.celery = outbox.doorbell(settings)
    Deployments(settings).register()
    errors.install(app)
    for feature in FEATURES:
        app.include_router(feature, prefix="/v1")  # not a router of routers: each level looks at all routes again
    app.include_router(health)
    learn_parameters(app)
    app.add_middleware(Edge, settings=settings)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    relay = outbox.Relay(state.sessions, state.bell, state.celery)
    tasks = [partial(refresh_all, settings=state.settings), judge, restart_due]
    beside = [Upkeep(state.sessions, state.blobs, state.settings).run]
    clock = Clock(state.engine, state.sessions, state.blobs, state.settings, tasks=tasks, beside=beside)
    background = [
        asyncio.create_task(work, name=name)
        for name, work in (
            ("bell", state.bell.run()),
            ("relay", relay.run()),
            ("clock", clock.run()),
            ("bootstrap", _bootstrap(app)),
        )
    ]
    try:
        yield
    finally:
        state.bell.close()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await state.statements.close()
        await state.engine.dispose()


async def _bootstrap(app: FastAPI) -> None:
    """The default workspace, the tokens of the settings: tried until Postgres is there."""
    settings: ApiSettings = app.state.settings
    while True:
        try:
            async with app.state.sessions.begin() as session:
                await workspaces_service.ensure_default(session)
                await _ensure_tokens(session, settings)
                await curated.ensure(session)
        except Exception as error:  # noqa: BLE001 - tried again; what cannot get better shows in the log
            log.warning("bootstrap waits", error=str(error).splitlines()[0])
            await asyncio.sleep(0.2)
        else:
            app.state.is_bootstrapped = True
            return


async def _ensure_tokens(session: AsyncSession, settings: ApiSettings) -> None:
    wanted = (
        (settings.admin_token, "admin", Role.ADMIN),
        (settings.worker_token, "worker", Role.WORKER),
        (settings.gateway_token, "gateway", Role.GATEWAY),
    )
    for secret, name, role in wanted:
        if secret is not None:
            await auth.ensure_token(session, secret.get_secret_value(), name=name, role=role)
