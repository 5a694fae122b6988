"""Concurrency and ending."""

import contextlib
import signal
import threading
import time

SLEEPER = """
    import time, threading

    def init():
        {init}

    def run(raw):
        print("run began")
        time.sleep(float(raw))
        return threading.current_thread().name
"""
ASLEEP = """
    import asyncio

    def init():
        pass

    async def run(raw):
        if raw == "raise":
            raise SystemExit
        await asyncio.sleep(float(raw))
        return raw
"""


class Ask(threading.Thread):
    """A request on its own thread; `answer` stays None when the connection was cut."""

    def __init__(self, server, body):
        super().__init__(daemon=True)
        self.server, self.body, self.answer = server, body, None
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            self.answer = self.server.score(self.body)


def asked(server, body):
    ask = Ask(server, body)
    server.wait_for(lambda: "run began" in server.output)
    return ask


def sleeper(serve, init="pass", **environ):
    return serve(SLEEPER.format(init=init), **environ).wait_ready()


def test_probes_are_answered_while_run_is_busy(serve):
    server = sleeper(serve)
    asked(server, b"2")

    started = time.monotonic()
    assert server.get("/readyz").status == 200
    assert time.monotonic() - started < 1


def test_a_plain_run_serves_one_request_at_a_time(serve):
    server = sleeper(serve)
    started = time.monotonic()
    asks = [Ask(server, b"0.2") for _ in range(3)]
    for ask in asks:
        ask.join()

    assert time.monotonic() - started >= 0.6
    assert {ask.answer.json() for ask in asks} == {"MainThread"}


def test_an_async_run_is_awaited_beside_others(serve):
    server = serve(ASLEEP).wait_ready()
    started = time.monotonic()
    asks = [Ask(server, b"0.5") for _ in range(8)]
    for ask in asks:
        ask.join()

    assert {ask.answer.json() for ask in asks} == {"0.5"}
    assert time.monotonic() - started < 3


def test_an_async_run_that_quits_fails_its_own_request_only(serve):
    server = serve(ASLEEP).wait_ready()

    assert server.score(b"raise").status == 500
    assert server.score(b"0").status == 200


def test_sigterm_lets_requests_in_flight_finish(serve):
    server = sleeper(serve)
    ask = asked(server, b"0.5")

    assert server.stop() == 0
    ask.join()
    assert ask.answer.status == 200
    assert server.events("stopping")
    assert server.events("stopped")


def test_sigterm_refuses_new_connections(serve):
    server = sleeper(serve)
    asked(server, b"1")
    server.process.send_signal(signal.SIGTERM)

    server.wait_for(lambda: not server.is_ready())
    assert server.wait_exit() == 0


def test_the_grace_ends(serve):
    server = sleeper(serve, KEELWAY_GRACE_S="1")
    asked(server, b"60")

    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10


def test_a_second_sigterm_ends_at_once(serve):
    server = sleeper(serve, KEELWAY_GRACE_S="60")
    asked(server, b"60")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for(lambda: server.events("stopping"))

    started = time.monotonic()
    assert server.stop() == 128 + signal.SIGTERM
    assert time.monotonic() - started < 5


def test_sigterm_during_init_ends_with_0(serve):
    server = serve(SLEEPER.format(init="time.sleep(60)"))
    server.wait_for(lambda: server.events("listening"))

    assert server.stop() == 0


def test_a_thread_the_script_left_running_does_not_keep_the_process(serve):
    server = sleeper(serve, init="threading.Thread(target=time.sleep, args=(60,)).start()")

    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10


def test_what_the_script_registered_for_the_end_runs(serve):
    server = sleeper(serve, init="import atexit; atexit.register(print, 'the last word')")

    server.stop()

    assert "the last word" in server.output


def test_the_socket_is_not_inherited_by_children_of_the_script(serve):
    ls = "subprocess.run(['ls', '-l', '/proc/self/fd'], capture_output=True, text=True, close_fds=False).stdout"
    server = sleeper(serve, init=f"import subprocess; print('sockets of a child:', {ls}.count('socket:'))")

    assert "sockets of a child: 0" in server.output
