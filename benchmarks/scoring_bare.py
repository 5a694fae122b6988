"""The same model behind the thinnest HTTP layers there are: what is left when a server does nothing else.

Run with an interpreter that has the packages: `python scoring_bare.py fastapi|asgi|protocol PORT MODEL`. No keys, no
metrics, no request ids, no log, no checks of what comes in: limits, not servers to use.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import httptools
import joblib
import numpy as np
import orjson
import uvicorn
import uvloop

Answer = Callable[[bytes], bytes]


def answers(model: Any) -> dict[str, Answer]:
    """What each path answers to a body."""

    def score(body: bytes) -> bytes:
        return orjson.dumps(model.predict(np.array(orjson.loads(body)["data"])).tolist())

    def raw(body: bytes) -> bytes:
        return orjson.dumps([len(body), body[0], body[-1]])

    return {"/score": score, "/raw": raw}


def asgi(model: Any, port: int) -> None:
    """A function of ASGI on uvicorn, as fast as uvicorn goes."""
    answer = answers(model)

    async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        chunks, is_more = [], True
        while is_more:
            message = await receive()
            chunks.append(message["body"])
            is_more = message["more_body"]
        content = answer[scope["path"]](b"".join(chunks))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    _uvicorn(app, port)


def fastapi(model: Any, port: int) -> None:
    """FastAPI as its documentation has it, with endpoints that need no thread."""
    from fastapi import FastAPI, Request  # noqa: PLC0415 - the limits run without it
    from pydantic import BaseModel  # noqa: PLC0415

    class Rows(BaseModel):
        data: list[list[float]]

    app = FastAPI()

    @app.post("/score")
    async def score(rows: Rows) -> list[float]:
        return model.predict(np.array(rows.data)).tolist()

    @app.post("/raw")
    async def raw(request: Request) -> list[int]:
        body = await request.body()
        return [len(body), body[0], body[-1]]

    _uvicorn(app, port)


def protocol(model: Any, port: int) -> None:
    """Nothing between the socket and the function but httptools."""
    answer = {path.encode(): function for path, function in answers(model).items()}
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self._transport, self._parser = transport, httptools.HttpRequestParser(self)
            self._path, self._body = b"", bytearray()

        def data_received(self, data: bytes) -> None:
            self._parser.feed_data(data)

        def on_url(self, url: bytes) -> None:
            self._path, self._body = url, bytearray()

        def on_body(self, body: bytes) -> None:
            self._body += body

        def on_message_complete(self) -> None:
            content = answer[self._path](bytes(self._body))
            self._transport.write(head % len(content) + content)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=2048)
        await server.serve_forever()

    uvloop.run(serve())


def _uvicorn(app: Any, port: int) -> None:
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False, ws="none"
    )


if __name__ == "__main__":
    {"asgi": asgi, "fastapi": fastapi, "protocol": protocol}[sys.argv[1]](joblib.load(sys.argv[3]), int(sys.argv[2]))
