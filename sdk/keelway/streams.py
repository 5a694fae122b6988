"""Logs as they are written, over connections that may be cut."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx2

from keelway.errors import Unreachable

if TYPE_CHECKING:
    from keelway.client import Client

_PAUSE_S = 0.5


def follow_text(client: Client, path: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Pieces of text: the events of an event stream up to its `end`, or the body of a plain answer.

    A cut event stream is taken up again after the last event that came; one that is quiet for long is just asked again.
    """
    last_id: str | None = None
    while True:
        headers = {"Accept": "text/event-stream, text/plain"} | ({"Last-Event-ID": last_id} if last_id else {})
        with client.transport.stream("GET", path, params=params, headers=headers) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                yield from _plain(response)
                return
            with suppress(httpx2.TransportError):
                for event in httpx2.EventSource(response):
                    if event.event == "end":
                        return
                    last_id = event.id or last_id
                    if event.data:
                        yield json.loads(event.data)
        time.sleep(_PAUSE_S)  # a server that closes at once must not be asked without a pause


def _plain(response: httpx2.Response) -> Iterator[str]:
    try:
        yield from response.iter_text()
    except httpx2.TransportError as error:
        raise Unreachable(f"the log broke off: {error or type(error).__name__}") from error
