"""Server-sent events of text that grows: `data` is a JSON string, the last event is `end`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi.responses import StreamingResponse

from keelway_api.bell import Bell

KEEP_ALIVE_S = 15.0
Pieces = list[tuple[str, str]]  # (event id, text)


def stream(bell: Bell, topic: str, look: Callable[[], Awaitable[tuple[Pieces, bool]]]) -> StreamingResponse:
    """An event for each new piece. `look` answers what came since it was last asked, and True at the end."""
    return StreamingResponse(
        _events(bell, topic, look), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(bell: Bell, topic: str, look: Callable[[], Awaitable[tuple[Pieces, bool]]]) -> AsyncIterator[str]:
    async def news() -> tuple[Pieces, bool] | None:
        pieces, is_over = await look()
        return (pieces, is_over) if pieces or is_over else None

    while not bell.is_closing:
        found = await bell.until(topic, KEEP_ALIVE_S, news)
        if found is None:
            yield ": nothing new\n\n"
            continue
        for event_id, text in found[0]:
            yield f"id: {event_id}\ndata: {json.dumps(text)}\n\n"
        if found[1]:
            yield "event: end\ndata: {}\n\n"
            return
