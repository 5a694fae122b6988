"""Every route of the API, also those that the OpenAPI document does not show."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

from fastapi.routing import iter_route_contexts

from keelway_api.app import create_app
from keelway_api.settings import ApiSettings

PUBLIC = {"/livez", "/readyz", "/problems", "/problems/{name}"}


def settings(**more: object) -> ApiSettings:
    """Settings of an API that reaches nothing."""
    return ApiSettings(
        **{
            "database_url": "postgresql+psycopg://nobody:secret@/none?host=/nowhere",
            "redis_url": "redis://127.0.0.1:1",
            "s3_endpoint": "127.0.0.1:1",
            "s3_access_key": "key",
            "s3_secret_key": "secret",
            **more,
        }
    )


def all_routes() -> list[tuple[str, str]]:
    """(method, path template) of each."""
    return sorted(set(_walk()))


def _walk() -> Iterator[tuple[str, str]]:
    for context in iter_route_contexts(create_app(settings()).routes):
        assert context.path is not None, f"{context} is no plain route: see that it needs a token, and list it here"
        for method in context.methods or {"GET"}:
            yield method, context.path


def filled(template: str, **values: str) -> str:
    """A path with a plausible value for each parameter that is not given."""
    defaults = {
        "workspace": "default",
        "name": "some-name",
        "version": "1",
        "alias": "champion",
        "experiment": "some-experiment",
        "run": "some-run",
        "upload": "0" * 32,
        "path": "m.pkl",
        "sha256": "0" * 64,
        "digest": "0" * 64,
        "identity": "0" * 64,
        "token_id": "0" * 12,
        "operation_id": str(uuid.uuid4()),
        "package_id": str(uuid.UUID(int=1)),
        "replica": "some-replica",
        "model": "some-model",
        "designation": "inputs",
        "file": "inputs-20300102T030405Z-00000000.csv",
    }
    found = {**defaults, **values}
    return re.sub(r"\{(\w+)(:path)?\}", lambda parameter: found[parameter[1]], template)
