"""`python -m keelway_api`: serve until told to stop."""

from __future__ import annotations

import ctypes
import json
import logging
import sys
from typing import Any

import structlog
import uvicorn
from pydantic import ValidationError

from keelway_api.app import create_app
from keelway_api.bell import Bell
from keelway_api.settings import ApiSettings, MissingSecretFile

STOP_S = 5
M_ARENA_MAX, ARENAS = -8, 2  # malloc.h
ENCODER = json.JSONEncoder(default=str)


def configure_logging() -> None:
    """One JSON line an event on stderr, with the request's id."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


def _json(event: Any, **_: Any) -> str:
    return ENCODER.encode(event)  # made once: json.dumps would make one for each line


def keep_few_arenas() -> None:
    """Have glibc's malloc keep two heaps, not one for each thread, which gives back little of what large chunks took.

    Whoever starts the process need not know. Other C libraries have no such heaps.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_ARENA_MAX, ARENAS)


class Server(uvicorn.Server):
    """Sends long polls home as soon as a stop is asked for, so that it does not wait for them."""

    bell: Bell

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal came."""
        self.bell.close()
        super().handle_exit(sig, frame)


def main() -> int:
    """Exit code 2 when the settings are wrong, naming each."""
    keep_few_arenas()
    configure_logging()
    try:
        settings = ApiSettings()  # pyright: ignore[reportCallIssue] - the fields come from the environment
    except MissingSecretFile as error:
        print(f"keelway-api: {error}", file=sys.stderr)
        return 2
    except ValidationError as error:
        for found in error.errors():
            name = "KEELWAY_" + "_".join(str(part).upper() for part in found["loc"]) if found["loc"] else "settings"
            print(f"keelway-api: {name}: {found['msg']}", file=sys.stderr)
        return 2
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        proxy_headers=settings.behind_proxy,  # else anybody on this host could pass for https, or for somebody else
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=65536,
    )
    server = Server(config)
    server.bell = app.state.bell
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
