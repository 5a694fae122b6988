"""Prometheus metrics of the API."""

from __future__ import annotations

from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "keelway_api_requests", "Requests by route and status", ["method", "route", "status"], registry=REGISTRY
)
SECONDS = Histogram("keelway_api_request_seconds", "Time to answer", ["method", "route"], registry=REGISTRY)
RINGS = Counter("keelway_doorbell_rings", "Operation ids sent to workers", ["outcome"], registry=REGISTRY)
OPERATIONS = Counter("keelway_operations_ended", "Operations by kind and end", ["kind", "state"], registry=REGISTRY)


def observe(request: Request, status: int, seconds: float) -> None:
    """Count one answered request under its route's template, so that names do not become labels."""
    route = request.scope.get("route")
    path = getattr(route, "path", "unmatched")
    if route and request.scope["path"].startswith("/v1/"):
        path = f"/v1{path.removeprefix('/v1')}"  # a route of an included router knows its own part only
    REQUESTS.labels(request.method, path, str(status)).inc()
    SECONDS.labels(request.method, path).observe(seconds)
