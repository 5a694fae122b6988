"""Keeps the gateway's routes in a file, so that a gateway that restarts while the API is away still knows them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import structlog

from keelway.client import Client
from keelway.errors import KeelwayError
from keelway_workers.node_dir import write_atomically

WAIT_S = 30.0
PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0

logger = structlog.get_logger(__name__)


def keep_routes(client: Client, file: Path, ending: threading.Event) -> None:
    """Replace the file whenever the routes change. No failed answer ever touches it."""
    etag: str | None = None
    pause_s = PAUSE_S
    while not ending.is_set():
        try:
            answer = client.gateway.routes(etag, wait_s=WAIT_S if etag else 0)
            if answer is not None:
                etag = _write(file, answer)
            pause_s = PAUSE_S
        except (KeelwayError, ValueError, OSError) as error:
            logger.warning("the gateway's routes stay as they are", problem=str(error))
            ending.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _write(file: Path, answer: tuple[str, dict]) -> str | None:
    etag, routes = answer
    if not isinstance(routes, dict):
        raise ValueError("the API's routes are no JSON object")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(routes, indent=2))
    return etag or None
