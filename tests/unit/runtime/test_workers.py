"""Worker processes: what a crash, a timeout or a full queue costs, and whom."""

from __future__ import annotations

import contextlib
import os
import signal
import textwrap
import time

import psutil
import pytest

from tests.support.raw_http import Answer, Raw, request, scoring

SCRIPT = """
    import os, pathlib, time

    def init():
        if pathlib.Path("broken").exists():
            raise RuntimeError("init does not like it any more")
        if pathlib.Path("slow").exists():
            time.sleep(1)

    {run}
        word, _, number = raw.partition(" ")
        if word == "sleep":
            {sleep}(float(number))
        if word == "crash":
            {sleep}(float(number))
            os._exit(7)
        if word == "note":
            with open("noted", "a") as file:
                file.write(number + " ")
        return os.getpid()
"""
PLAIN = SCRIPT.format(run="def run(raw):", sleep="time.sleep")
ASYNC = SCRIPT.format(run="async def run(raw):", sleep="await __import__('asyncio').sleep")
CANCELLED = """
    import asyncio

    def init():
        pass

    {run}
        if raw == "cancel":
            raise asyncio.CancelledError
        if raw == "interrupt":
            raise KeyboardInterrupt
        return raw
"""


@pytest.fixture
def connect():
    """connect(server): a connection that is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(Raw(server.port, timeout_s=20))


@pytest.fixture
def start(serve, tmp_path):
    """A server whose app root is tmp_path."""
    return lambda script=PLAIN, **environ: serve(script, app_root=tmp_path, **environ).wait_ready()


def workers(server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def metric(server, name: str) -> float:
    """One figure of /metrics."""
    lines = server.get("/metrics").body.decode().splitlines()
    return next(float(value) for key, value in (line.rsplit(" ", 1) for line in lines) if key == name)


def in_flight(server) -> float:
    return metric(server, "keelway_requests_in_flight")


def restarts(server) -> float:
    return metric(server, "keelway_worker_restarts_total")


def behind(server, connect, first: bytes, *, count: int) -> tuple[Raw, list[Raw]]:
    """One request that is being scored, and others that note their number once they are."""
    begun = connect(server).send(scoring(first))
    server.wait_for(lambda: in_flight(server) == 1)
    waiting = [connect(server).send(scoring(b"note %d" % number)) for number in range(count)]
    server.wait_for(lambda: in_flight(server) == 1 + count)
    return begun, waiting


def statuses(connections: list[Raw]) -> list[int]:
    return [one.answer().status for one in connections]


def refused(answer: Answer, status: int, message: str) -> bool:
    return answer.status == status == answer.json()["status_code"] and message in answer.json()["message"]


def test_a_crash_costs_its_own_request_and_those_behind_it_are_scored_once(start, connect, tmp_path):
    server = start()
    begun, waiting = behind(server, connect, b"crash 0.5", count=20)

    answer = begun.answer()
    assert refused(answer, 502, "ended before it answered")
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert statuses(waiting) == [200] * 20
    assert (tmp_path / "noted").read_text().split() == [str(number) for number in range(20)]
    assert restarts(server) == 1


def test_a_crash_after_quick_requests_still_loses_none(start, connect, tmp_path):
    server = start()
    for _ in range(50):
        assert server.score(b"x").status == 200  # quick ones, so that a worker gets several at once
    begun, waiting = behind(server, connect, b"crash 0.5", count=50)

    assert begun.answer().status == 502
    assert statuses(waiting) == [200] * 50
    assert sorted(map(int, (tmp_path / "noted").read_text().split())) == list(range(50))


def test_crash_after_crash_none_is_lost_or_scored_twice(start, connect, tmp_path):
    server = start()
    asked = [b"crash 0" if number % 7 == 3 else b"note %d" % number for number in range(28)]
    answers = statuses([connect(server).send(scoring(body)) for body in asked])

    assert answers == [502 if body == b"crash 0" else 200 for body in asked]
    noted = [int(number) for number in (tmp_path / "noted").read_text().split()]
    assert sorted(noted) == [number for number in range(28) if number % 7 != 3]


def test_what_takes_too_long_is_504_and_a_worker_that_comes_back_is_kept(start, connect):
    server = start(KEELWAY_SCORING_TIMEOUT_MS="600")
    pid = server.score(b"x").json()

    started = time.monotonic()
    answer = connect(server).send(scoring(b"sleep 0.9")).answer()

    assert refused(answer, 504, "longer than 600 ms")
    assert 0.6 <= time.monotonic() - started < 0.9
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert server.score(b"x").json() == pid
    assert restarts(server) == 0


def test_a_worker_that_does_not_come_back_is_replaced_and_those_behind_are_scored(start, connect, tmp_path):
    server = start(KEELWAY_SCORING_TIMEOUT_MS="300")
    pid = server.score(b"x").json()
    begun, waiting = behind(server, connect, b"sleep 60", count=5)

    assert begun.answer().status == 504
    assert {answer.status for answer in (one.answer() for one in waiting)} == {200}
    assert (tmp_path / "noted").read_text() == "0 1 2 3 4 "
    assert server.score(b"x").json() != pid
    assert not psutil.pid_exists(pid)
    assert restarts(server) == 1


def test_several_workers_score_at_the_same_time(start, connect):
    server = start(KEELWAY_WORKERS="2")
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)
    started = time.monotonic()

    answers = [one.answer() for one in [connect(server).send(scoring(b"sleep 0.8")) for _ in range(2)]]

    assert time.monotonic() - started < 1.5
    assert len({answer.json() for answer in answers}) == 2


def test_the_crash_of_one_worker_does_not_stop_the_other(start, connect):
    server = start(KEELWAY_WORKERS="2")
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)
    steady = connect(server).send(scoring(b"sleep 0.8"))
    server.wait_for(lambda: in_flight(server) == 1)
    crashing = connect(server).send(scoring(b"crash 0"))

    assert crashing.answer().status == 502
    assert server.get("/").status == 200  # the other one
    assert steady.answer().status == 200
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)
    assert restarts(server) == 1


def test_threads_score_as_many_at_the_same_time_as_the_deployment_asks_for(start, connect):
    server = start(KEELWAY_MAX_CONCURRENT_REQUESTS="3")
    started = time.monotonic()

    answers = [one.answer() for one in [connect(server).send(scoring(b"sleep 0.5")) for _ in range(6)]]

    assert 1.0 <= time.monotonic() - started < 1.45
    assert [answer.status for answer in answers] == [200] * 6


@pytest.mark.parametrize(("script", "at_once"), [(PLAIN, "2"), (ASYNC, "3")], ids=["threads", "async"])
def test_a_crash_costs_what_is_scored_beside_it_and_no_other(start, connect, tmp_path, script, at_once):
    server = start(script, KEELWAY_MAX_CONCURRENT_REQUESTS=at_once)
    begun = [connect(server).send(scoring(b"crash 0.5"))]
    begun += [connect(server).send(scoring(b"sleep 60")) for _ in range(int(at_once) - 1)]
    server.wait_for(lambda: in_flight(server) == len(begun))
    waiting = [connect(server).send(scoring(b"note %d" % number)) for number in range(10)]

    assert statuses(begun) == [502] * len(begun)
    assert statuses(waiting) == [200] * 10
    assert sorted(map(int, (tmp_path / "noted").read_text().split())) == list(range(10))


def test_a_request_that_waits_for_a_thread_is_not_timed_yet(start, connect):
    server = start(KEELWAY_MAX_CONCURRENT_REQUESTS="2", KEELWAY_SCORING_TIMEOUT_MS="900")

    answers = statuses([connect(server).send(scoring(b"sleep 0.5")) for _ in range(6)])  # three rounds, 1.5 s

    assert answers == [200] * 6


def test_a_full_queue_is_503(start, connect):
    server = start(KEELWAY_MAX_QUEUE="3")
    _, waiting = behind(server, connect, b"sleep 1", count=3)

    answer = connect(server).send(scoring(b"x")).answer()

    assert refused(answer, 503, "3 requests wait already")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert metric(server, "keelway_queue_length") == 3
    assert statuses(waiting) == [200] * 3


def test_without_a_queue_what_can_be_scored_at_once_is(start, connect):
    server = start(KEELWAY_MAX_QUEUE="0")
    begun = connect(server).send(scoring(b"sleep 0.5"))
    server.wait_for(lambda: in_flight(server) == 1)

    assert server.score(b"x").status == 503
    assert begun.answer().status == 200
    assert server.score(b"x").status == 200


def test_what_waits_too_long_is_503_and_never_scored(start, connect, tmp_path):
    server = start(KEELWAY_MAX_QUEUE_WAIT_MS="300")
    for _ in range(20):
        server.score(b"x")
    begun, waiting = behind(server, connect, b"sleep 1", count=50)
    answers = [one.answer() for one in waiting]

    late = [answer for answer in answers if answer.status != 200]
    assert all(refused(answer, 503, "more than 300 ms") for answer in late)
    assert {answer.headers["retry-after"] for answer in late} == {"1"}
    assert len(late) >= 10  # of the others the worker had been told already
    assert begun.answer().status == 200
    assert server.score(b"x").status == 200
    noted = (tmp_path / "noted").read_text().split() if (tmp_path / "noted").exists() else []
    assert len(noted) == len(answers) - len(late)


def test_a_slow_script_gets_no_requests_before_it_can_score_them(start, connect):
    server = start(KEELWAY_MAX_QUEUE_WAIT_MS="300")
    server.score(b"sleep 0.1")
    begun, waiting = behind(server, connect, b"sleep 1", count=10)

    assert statuses(waiting) == [503] * 10
    assert begun.answer().status == 200


def test_requests_wait_while_the_worker_restarts(start, connect, tmp_path):
    server = start()
    (tmp_path / "slow").touch()
    assert server.score(b"crash 0").status == 502

    waiting = connect(server).send(scoring(b"x"))
    answer = server.get("/")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "started again" in answer.json()["message"]
    assert server.get("/livez").status == 200
    assert waiting.answer().status == 200
    assert server.get("/").status == 200


def test_a_worker_killed_from_outside_is_restarted(start):
    server = start()
    [before] = workers(server)

    before.kill()
    server.wait_for(lambda: restarts(server) == 1 and server.is_ready())

    [after] = workers(server)
    assert server.score(b"x").json() == after.pid != before.pid
    assert server.events("worker ended")[0]["exit_code"] == -signal.SIGKILL


def test_a_stopped_worker_is_replaced(start):
    server = start(KEELWAY_SCORING_TIMEOUT_MS="500")
    [before] = workers(server)

    before.suspend()
    answer = server.score(b"x")

    assert answer.status == 200
    assert answer.json() != before.pid


def test_a_worker_that_cannot_be_started_now_is_tried_again(serve, tmp_path):
    (tmp_path / "patched").mkdir()
    (tmp_path / "patched" / "sitecustomize.py").write_text(
        textwrap.dedent("""
            import sys
            if sys.orig_argv[-1] == "keelway_runtime":
                import asyncio, uvloop
                started = uvloop.Loop.subprocess_exec
                calls = []

                class Loop(uvloop.Loop):
                    async def subprocess_exec(self, *args, **options):
                        calls.append(1)
                        if 3 <= len(calls) <= 4:
                            raise BlockingIOError("no process is to be had")
                        return await super().subprocess_exec(*args, **options)

                uvloop.new_event_loop = Loop
        """)
    )
    server = serve(PLAIN, app_root=tmp_path, PYTHONPATH=str(tmp_path / "patched"), KEELWAY_WORKERS="2").wait_ready()
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)

    workers(server)[0].kill()
    server.wait_for(lambda: server.events("worker ended"))
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)

    assert server.score(b"x").status == 200
    assert len(server.events("worker not started")) == 2
    assert server.stop() == 0


def test_init_that_fails_at_a_restart_ends_the_server_with_3(start, connect, tmp_path):
    server = start()
    (tmp_path / "broken").touch()
    begun, waiting = behind(server, connect, b"crash 0.3", count=1)

    assert begun.answer().status == 502
    assert server.wait_exit() == 3
    assert waiting[0].is_closed()
    assert "RuntimeError: init does not like it any more" in server.output
    assert workers_named(tmp_path) == []


def test_init_that_fails_in_one_of_two_workers_leaves_the_other(start, tmp_path):
    server = start(KEELWAY_WORKERS="2")
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)
    (tmp_path / "broken").touch()

    workers(server)[0].kill()
    server.wait_for(lambda: server.events("script failed"))
    assert server.score(b"x").status == 200

    (tmp_path / "broken").unlink()
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)


def test_no_worker_outlives_a_front_that_is_killed(start, tmp_path):
    server = start(KEELWAY_WORKERS="2")
    server.wait_for(lambda: metric(server, "keelway_workers_ready") == 2)
    assert len(workers_named(tmp_path)) == 2

    server.process.kill()

    _, alive = psutil.wait_procs(workers_named(tmp_path), timeout=2)
    assert alive == []


def test_metrics_tell_what_is_scored_and_what_waits(start, connect):
    server = start()
    _, waiting = behind(server, connect, b"sleep 0.5", count=4)

    assert metric(server, "keelway_requests_in_flight") == 5
    assert metric(server, "keelway_queue_length") == 4
    assert metric(server, "keelway_workers_ready") == 1
    assert statuses(waiting) == [200] * 4
    assert metric(server, "keelway_requests_in_flight") == 0
    assert metric(server, "keelway_queue_length") == 0
    server.score(b"crash 0")
    server.wait_for(lambda: restarts(server) == 1 and server.is_ready())
    assert metric(server, 'keelway_requests_total{status="502"}') == 1
    assert metric(server, "keelway_run_failures_total") == 1
    front = psutil.Process(server.process.pid).memory_info().rss
    assert metric(server, "process_resident_memory_bytes") > front


@pytest.mark.parametrize("run", ["def run(raw):", "async def run(raw):"])
def test_a_script_that_cancels_itself_fails_its_own_request(start, run):
    server = start(CANCELLED.format(run=run), KEELWAY_SCORING_TIMEOUT_MS="2000")

    assert server.score(b"cancel").status == 500
    assert server.score(b"x").status == 200
    assert restarts(server) == 0


@pytest.mark.parametrize("run", ["def run(raw):", "async def run(raw):"])
def test_a_script_that_interrupts_itself_costs_at_most_its_worker(start, run):
    server = start(CANCELLED.format(run=run), KEELWAY_SCORING_TIMEOUT_MS="2000")

    assert server.score(b"interrupt").status in (500, 502)
    assert server.score(b"x").status == 200


def test_the_next_request_of_a_kept_connection_is_scored_by_the_next_worker(start, connect):
    server = start()
    kept = connect(server)

    assert kept.send(scoring(b"crash 0")).answer().status == 502
    assert kept.send(scoring(b"x")).answer().status == 200
    assert kept.send(request("GET", "/")).answer().body == b"Healthy"


def workers_named(app_root) -> list[psutil.Process]:
    """All processes that were started for this app root, but for a front that has ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_worker = "keelway_runtime.worker" in process.cmdline()
            if is_worker and process.environ().get("AML_APP_ROOT") == os.fspath(app_root):
                found.append(process)
    return found
