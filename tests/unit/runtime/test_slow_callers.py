"""Callers that are slow, or half gone, or too many: each is bounded in time, and the others do not notice."""

from __future__ import annotations

import contextlib
import socket
import textwrap
import time

import psutil
import pytest

from tests.support.raw_http import Raw, request, scoring
from tests.support.watch import Watch

SCRIPT = """
    import time

    noted = []

    def init():
        pass

    def run(raw):
        word, _, number = raw.partition(" ")
        if word == "sleep":
            time.sleep(float(number))
        if word == "size":
            return "x" * int(number)
        if word == "note":
            noted.append(number)
            return noted
        return raw
"""
LIMIT_S, SWEEP_S = 0.8, 0.2
ENDED_WITHIN_S = LIMIT_S + 2 * SWEEP_S + 2.0
PROBE_S = 2.0  # for longer than that, no probe may wait
MEBIBYTE = 1024 * 1024
# Found by the interpreter when it starts: the front's time limits, small enough to be waited for.
IMPATIENT = f"""
    import sys
    if sys.orig_argv[-1] == "keelway_runtime":
        from keelway_runtime import http, server
        http.HEAD_S = http.BODY_S = http.WRITE_S = {LIMIT_S}
        server.SWEEP_S = {SWEEP_S}
"""


@pytest.fixture(scope="module")
def serve_impatient(serve, tmp_path_factory):
    """A server as `serve` starts, with shorter time limits."""
    folder = tmp_path_factory.mktemp("impatient")
    (folder / "sitecustomize.py").write_text(textwrap.dedent(IMPATIENT))

    def start(**environ: str):
        return serve(SCRIPT, PYTHONPATH=str(folder), **environ).wait_ready()

    return start


@pytest.fixture(scope="module")
def server(serve_impatient):
    return serve_impatient(KEELWAY_MAX_CONNECTIONS="300")


class Slow:
    """Connections that begin like this, and then send a little more now and then, until they are closed."""

    def __init__(self, port: int, beginning: bytes, more: bytes, *, count: int) -> None:
        self.answers: list[bytes] = []
        self._more = more
        self.open = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        for one in self.open:
            one.sendall(beginning)
            one.setblocking(False)

    def go_on(self) -> None:
        """Send more, and see what has come."""
        for one in list(self.open):
            with contextlib.suppress(ConnectionError, BlockingIOError):
                one.send(self._more)
            with contextlib.suppress(BlockingIOError):
                self._receive(one)

    def _receive(self, one: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = one.recv(65536)
        if data:
            self.answers.append(data[: len(TOO_SLOW)])
        else:
            one.close()
            self.open.remove(one)


def trickle(*slow: Slow) -> None:
    """Have them go on until all are closed, which must be in time."""
    ends_at = time.monotonic() + ENDED_WITHIN_S
    while any(one.open for one in slow):
        assert time.monotonic() < ends_at
        for one in slow:
            one.go_on()
        time.sleep(0.1)


@pytest.fixture
def connect():
    """connect(server): a connection that is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda server, **given: stack.enter_context(Raw(server.port, **given))


def beside(server) -> Watch:
    """Someone else, who should not notice anything."""
    return Watch(server.port, request(), scoring(b"x"))


def connections(server) -> int:
    """How many sockets with callers the front has."""
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(one.status != psutil.CONN_LISTEN for one in found)


def metric(server, name: str) -> float:
    """One figure of /metrics."""
    lines = server.get("/metrics").body.decode().splitlines()
    return next(float(value) for key, value in (line.rsplit(" ", 1) for line in lines) if key == name)


def in_flight(server) -> float:
    return metric(server, "keelway_requests_in_flight")


def body_of(size: int) -> bytes:
    """The head of a request with so large a body."""
    return scoring(b"").replace(b"Content-Length: 0", b"Content-Length: %d" % size)


HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: "
TOO_SLOW = b"HTTP/1.1 408 "


def test_slow_heads_are_ended_and_nobody_else_waits_for_them(server):
    with beside(server) as watch:
        silent = Slow(server.port, b"", b"", count=40)
        empty_lines = Slow(server.port, b"\r\n", b"\r\n", count=40)
        address = Slow(server.port, b"GET /", b"a", count=40)
        header = Slow(server.port, HEAD, b"a", count=40)
        half_a_header = Slow(server.port, HEAD, b"", count=40)
        trickle(silent, empty_lines, address, header, half_a_header)

    assert watch.statuses(0) | watch.statuses(1) == {200}
    assert watch.longest_s < PROBE_S
    assert silent.answers == empty_lines.answers == []
    assert address.answers == header.answers == half_a_header.answers == [TOO_SLOW] * 40


def test_slow_bodies_are_ended(server):
    with beside(server) as watch:
        slow = Slow(server.port, body_of(100_000), b"a", count=20)
        trickle(slow)

    assert watch.longest_s < PROBE_S
    assert slow.answers == [TOO_SLOW] * 20


def test_a_body_that_comes_steadily_may_take_its_time(server, connect):
    connection = connect(server).send(body_of(40_000))
    for _ in range(20):
        connection.send(b"a" * 2000)
        time.sleep(0.1)

    assert connection.answer().status == 200


def test_a_caller_who_ends_its_side_still_gets_its_answer(server, connect):
    connection = connect(server).send(scoring(b"sleep 0.3")).end_sending()

    assert connection.answer().json() == "sleep 0.3"
    assert connection.is_closed()


def test_a_caller_who_ends_its_side_still_gets_all_its_answers(server, connect):
    connection = connect(server).send(scoring(b"sleep 0.1") * 3 + request()).end_sending()

    assert [connection.answer().status for _ in range(4)] == [200] * 4
    assert connection.is_closed()


def test_a_slow_body_behind_a_request_does_not_cost_its_answer(server, connect):
    connection = connect(server).send(scoring(b"sleep 2") + body_of(100_000))
    for _ in range(16):
        connection.send(b"a")
        time.sleep(0.1)

    assert connection.answer().json() == "sleep 2"


def test_a_caller_who_never_reads_a_large_answer_is_ended(server, connect):
    before = connections(server)
    connect(server, receive_bytes=65536).send(scoring(b"size 20000000"))
    server.wait_for(lambda: connections(server) == before + 1)

    with beside(server) as watch:
        server.wait_for(lambda: connections(server) <= before)

    assert watch.longest_s < PROBE_S


def test_answers_that_nobody_reads_are_not_gathered(server, connect):
    front = psutil.Process(server.process.pid)
    before = front.memory_info().rss
    connection = connect(server, receive_bytes=65536, timeout_s=0.5)

    with pytest.raises(TimeoutError):  # it stops reading while it cannot write
        connection.socket.sendall(request("GET", "/swagger.json") * 500_000)

    assert front.memory_info().rss - before < 16 * MEBIBYTE


def test_a_last_answer_that_nobody_reads_does_not_keep_the_connection(server, connect):
    before = connections(server)
    last = request("GET", "/swagger.json", "Connection: close")
    connect(server, receive_bytes=65536).send(scoring(b"size 5000000") + last)
    server.wait_for(lambda: connections(server) == before + 1)

    server.wait_for(lambda: connections(server) == before)


def test_a_large_answer_that_is_read_steadily_may_take_its_time(server, connect):
    connection = connect(server, receive_bytes=65536).send(scoring(b"size 30000000"))
    for _ in range(24):
        connection.take(500_000)
        time.sleep(0.1)

    connection.take(18_000_000)


def test_a_caller_who_leaves_while_its_request_waits_is_not_scored_for(serve_impatient, connect):
    server = serve_impatient()
    first = connect(server).send(scoring(b"sleep 1"))
    server.wait_for(lambda: in_flight(server) == 1)
    gone = [connect(server).send(scoring(b"note gone")) for _ in range(20)]
    last = connect(server).send(scoring(b"note here"))
    server.wait_for(lambda: in_flight(server) == 22)

    for one in gone:
        one.reset()

    assert first.answer().json() == "sleep 1"
    assert last.answer().json() == ["here"]
    assert server.score(b"note after").json() == ["here", "after"]
    assert in_flight(server) == 0


def test_the_places_of_callers_who_left_are_free_again(serve_impatient, connect):
    server = serve_impatient(KEELWAY_MAX_QUEUE="5")
    first = connect(server).send(scoring(b"sleep 1"))
    server.wait_for(lambda: in_flight(server) == 1)
    gone = [connect(server).send(scoring(b"x")) for _ in range(5)]
    server.wait_for(lambda: in_flight(server) == 6)
    for one in gone:
        one.reset()
    server.wait_for(lambda: in_flight(server) == 1)

    assert server.score(b"here").status == 200
    assert first.answer().status == 200


def test_more_connections_than_may_be_are_503(serve_impatient, connect):
    server = serve_impatient(KEELWAY_MAX_CONNECTIONS="5")
    server.wait_for(lambda: connections(server) == 0)
    busy = [connect(server).send(scoring(b"sleep 0.5")) for _ in range(5)]
    server.wait_for(lambda: connections(server) == 5)

    refused = connect(server)
    answer = refused.answer()

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"status_code": 503, "message": "The service has too many connections"}
    assert refused.is_closed()
    assert [one.answer().status for one in busy] == [200] * 5
    assert server.get("/livez").status == 200


def test_idle_connections_give_way_to_new_ones_the_oldest_first(serve_impatient, connect):
    server = serve_impatient(KEELWAY_MAX_CONNECTIONS="5")
    server.wait_for(lambda: connections(server) == 0)
    idle = [connect(server) for _ in range(5)]
    assert [one.send(request()).answer().status for one in idle] == [200] * 5

    new = [connect(server) for _ in range(2)]

    assert [one.send(request()).answer().status for one in new] == [200, 200]
    assert [one.is_closed() for one in idle[:2]] == [True, True]
    assert [one.send(request()).answer().status for one in idle[2:]] == [200] * 3


def test_a_caller_who_still_reads_is_not_idle(serve_impatient, connect):
    server = serve_impatient(KEELWAY_MAX_CONNECTIONS="1")
    server.wait_for(lambda: connections(server) == 0)
    reading = connect(server, receive_bytes=65536).send(scoring(b"size 20000000"))
    reading.take(1000)

    assert connect(server).answer().status == 503
    reading.take(19_000_000)
