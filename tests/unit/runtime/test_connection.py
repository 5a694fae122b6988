"""A connection whose server has a bug."""

import asyncio
import json

import pytest

from keelway_runtime.http import Connections
from keelway_runtime.messages import Reply

REQUEST = b"POST /%b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab"


class Service:
    """Answers what asks for nothing special, with a bug in `early` and one in `serve`."""

    def early(self, request):
        if request.path == "/early":
            raise RuntimeError("a bug of ours")

    def serve(self, request, respond):
        if request.path == "/serve":
            raise RuntimeError("a bug of ours")
        respond(Reply(200, b"fine"))

    def common_headers(self, request, answer):
        return answer.headers


async def answers_to(sent):
    connections = Connections(Service(), max_connections=10, max_body_bytes=1000)
    server = await asyncio.get_running_loop().create_server(connections.new, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(sent)
        answered = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    return answered


@pytest.mark.parametrize("place", [b"early", b"serve"])
def test_a_bug_of_ours_is_answered_500_and_logged_and_not_called_bad_http(place, capfd):
    answered = asyncio.run(answers_to(REQUEST % b"good" + REQUEST % place + REQUEST % b"good"))

    good, bad = answered.split(b"HTTP/1.1 ")[1:]
    assert good.startswith(b"200 ")
    assert bad.startswith(b"500 ")
    assert "a bug of ours" not in bad.decode()
    assert b"connection: close" in bad
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["event"] for line in told] == ["bug"]
    assert "a bug of ours" in told[0]["traceback"]
