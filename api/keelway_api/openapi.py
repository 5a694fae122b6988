"""`python -m keelway_api.openapi`: the OpenAPI document of this code, the same text at every run."""

from __future__ import annotations

import json
import sys

from pydantic import SecretStr

from keelway_api.app import create_app
from keelway_api.settings import ApiSettings


def document() -> str:
    """The document as it is committed: sorted, indented, with a newline at its end."""
    nowhere = SecretStr("postgresql+psycopg://nobody@localhost/none")
    settings = ApiSettings(  # pyright: ignore[reportCallIssue] - the rest has defaults
        database_url=nowhere,
        redis_url=SecretStr("redis://localhost"),
        s3_endpoint="localhost:1",
        s3_access_key=SecretStr("none"),
        s3_secret_key=SecretStr("none"),
    )
    return json.dumps(create_app(settings).openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
