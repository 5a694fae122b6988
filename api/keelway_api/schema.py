"""All tables of all features, for migrations."""

from __future__ import annotations

from keelway_api import events, idempotency, outbox
from keelway_api.audit import tables as audit
from keelway_api.auth import tables as auth
from keelway_api.blobs import tables as blobs
from keelway_api.environments import tables as environments
from keelway_api.experiments import tables as experiments
from keelway_api.images import tables as images
from keelway_api.inspections import tables as inspections
from keelway_api.manifests import tables as manifests
from keelway_api.models import tables as models
from keelway_api.nodes import tables as nodes
from keelway_api.operations import tables as operations
from keelway_api.packages import tables as packages
from keelway_api.services import tables as services
from keelway_api.snapshots import tables as snapshots
from keelway_api.tables import Base
from keelway_api.workspaces import tables as workspaces

__all__ = [
    "audit", "auth", "blobs", "environments", "events", "experiments", "idempotency", "images", "inspections",
    "manifests", "metadata", "models", "nodes", "operations", "outbox", "packages", "services", "snapshots",
    "workspaces",
]  # fmt: skip

metadata = Base.metadata
