"""Scripts that do what no script should: the probes answer all the while, nothing hangs, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest

from tests.support import hostile_acts
from tests.support.raw_http import Answer, Raw, request, scoring
from tests.support.watch import Watch
from tests.unit.runtime.conftest import Server, launch

TIMEOUT_S = 0.5
GRACE_S = 2
ANSWERED_S = TIMEOUT_S + 2.0
PROBE_S = 2.0  # for longer than that, no probe may wait
RECOVERS_S = 10.0
OTHERS = 6
# Found by the interpreter when it starts: else each crash would double the time until the next worker.
FORGIVING = """
import sys
if sys.orig_argv[-1] == "keelway_runtime":
    from keelway_runtime import pool
    pool.PROVEN_S = 0.0
"""

ENDING = "segfault exit_with_0 abort kill_itself kill_its_group close_all_descriptors close_the_channel"
FAILING = (
    "quit_python recurse take_too_much_memory return_a_circle return_a_deep_list return_what_never_ends "
    "raise_what_cannot_be_printed"
)
HANGING = (
    "sleep spin hold_the_lock_in_a_regex hold_the_lock_in_a_power deadlock ignore_all_signals stop_itself "
    "wait_for_a_child print_for_ever catch_everything"
)
GARBLING = (
    "tell_zeros tell_random_bytes tell_a_few_bytes tell_half_an_answer tell_a_huge_answer answer_nobody "
    "tell_of_itself_too_little tell_of_itself_no_json tell_that_text_was_dropped answer_not_a_number"
)
LASTING = (
    "start_threads start_programs fork_and_return_twice fork_and_stay change_directory_and_umask empty_the_environment "
    "replace_stdout have_no_stdout close_stdout take_all_signals end_slowly end_badly log_what_cannot_be_formatted "
    "take_all_descriptors set_a_timeout_for_all_sockets"
)
LATER = "have_an_alarm_later hold_the_lock_later"


class Place:
    """A server of the hostile script, and how to find all that it started."""

    def __init__(self, app_root: Path, *, stdout: int = subprocess.PIPE, **environ: str) -> None:
        (app_root / "score.py").write_text(Path(hostile_acts.__file__).read_text())
        (app_root / "forgiving").mkdir(exist_ok=True)
        (app_root / "forgiving" / "sitecustomize.py").write_text(FORGIVING)
        self._mark = uuid.uuid4().hex
        given = {
            "KEELWAY_SCORING_TIMEOUT_MS": str(round(TIMEOUT_S * 1000)),
            "KEELWAY_GRACE_S": str(GRACE_S),
            "PYTHONPATH": str(app_root / "forgiving"),
            "HOSTILE_MARK": self._mark,
            "PYTHONUNBUFFERED": "",  # with it, a stuck writer of stdout would keep nobody waiting
        }
        self.server: Server = launch(app_root, stdout=stdout, **{**given, **environ}).wait_ready()

    def ask(self, body: str) -> Answer:
        """The answer to one request; it comes, whatever it is."""
        with Raw(self.server.port, timeout_s=30) as connection:
            return connection.send(scoring(body.encode())).answer()

    def act(self, act: str, *expected: int, others: tuple[int, ...] = (200,), within_s: float = ANSWERED_S) -> None:
        """Have it done, with other requests beside it, and see that everything is well afterwards."""
        with Watch(self.server.port, request("GET", "/livez"), request("GET", "/")) as watch:
            beside = [Asking(self) for _ in range(OTHERS)]
            started = time.monotonic()
            assert self.ask(act).status in expected
            assert time.monotonic() - started < within_s
            assert {other.status() for other in beside} <= {*others}
            self.wait_recovered()
        assert watch.longest_s < PROBE_S
        assert watch.statuses(0) == {200}
        assert watch.statuses(1) <= {200, 503}

    def wait_recovered(self) -> None:
        """It scores again."""
        ends_at = time.monotonic() + RECOVERS_S
        while self.ask("good").status != 200:
            assert time.monotonic() < ends_at, self.server.output[-3000:]
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM ends all of it, in time."""
        started = time.monotonic()
        assert self.server.stop() == 0
        assert time.monotonic() - started < GRACE_S + 2.0
        assert self.processes() == []

    def processes(self) -> list[psutil.Process]:
        """What runs of it, its parents gone or not."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("HOSTILE_MARK") == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def clear(self) -> None:
        """Whatever a test that failed has left."""
        self.server.process.kill()
        for process in self.processes():
            process.kill()
        self.server.wait_exit()


class Asking(threading.Thread):
    """Another request at the same time."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self._place = place
        self._answer: Answer | None = None
        self.start()

    def run(self) -> None:
        self._answer = self._place.ask("other")

    def status(self) -> int:
        self.join(30)
        return 0 if self._answer is None else self._answer.status


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for all acts that another worker makes good, and nothing is left of it."""
    place = Place(tmp_path_factory.mktemp("hostile"))
    yield place
    try:
        place.stop()
    finally:
        place.clear()


@pytest.fixture
def start(tmp_path):
    """A server for one act."""
    places: list[Place] = []

    def start(**options) -> Place:
        places.append(Place(tmp_path, **options))
        return places[-1]

    yield start
    for place in places:
        place.clear()


@pytest.mark.parametrize("act", ENDING.split())
def test_a_script_that_ends_its_process_costs_its_own_request(shared, act):
    shared.act(act, 502)


@pytest.mark.parametrize("act", FAILING.split())
def test_a_script_that_fails_oddly_is_500(shared, act):
    shared.act(act, 500)


@pytest.mark.parametrize("act", HANGING.split())
def test_a_script_that_never_comes_back_is_504_and_replaced(shared, act):
    shared.act(act, 504)


@pytest.mark.parametrize("act", GARBLING.split())
def test_garbage_in_the_channel_harms_the_worker_at_most(shared, act):
    shared.act(act, 200, 502, 504, others=(200, 502, 504))


@pytest.mark.parametrize("act", LASTING.split())
def test_a_script_that_leaves_something_behind_does_not_keep_it(start, act):
    place = start()

    place.act(act, 200)

    place.stop()


@pytest.mark.parametrize("act", LATER.split())
def test_a_script_that_does_harm_after_its_answer_is_found_out(start, act):
    place = start()

    place.act(act, 200)
    time.sleep(0.2)
    with Watch(place.server.port, request("GET", "/livez")) as watch:
        assert {place.ask("other").status for _ in range(3)} <= {200, 502, 504}
        place.wait_recovered()

    assert watch.longest_s < PROBE_S
    place.stop()


def test_an_overflow_of_the_stack_costs_the_worker_at_most(shared):
    shared.act("overflow_the_stack", 500, 502)  # newer interpreters count the calls of C as well


def test_an_answer_of_1_gib_is_500_and_not_sent(start):
    place = start(KEELWAY_SCORING_TIMEOUT_MS="30000")

    place.act("return_a_gibibyte", 500, within_s=30)

    place.stop()


@pytest.mark.parametrize("act", ["write_a_gibibyte", "print_a_gibibyte"])
def test_1_gib_of_output_into_a_file_is_written(start, tmp_path, act):
    with (tmp_path / "output").open("wb") as output:
        place = start(stdout=output.fileno(), KEELWAY_SCORING_TIMEOUT_MS="30000")

        place.act(act, 200, within_s=30)

        place.stop()
    (tmp_path / "output").unlink()


@pytest.mark.parametrize("act", ["write_a_gibibyte", "print_a_gibibyte"])
def test_1_gib_of_output_that_nobody_reads_is_504(start, act):
    reading, writing = os.pipe()
    place = start(stdout=writing)
    os.close(writing)

    place.act(act, 504)

    place.stop()
    os.close(reading)
