"""How a replica's process ended."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keelway_workers import procs
from keelway_workers.exit_codes import ExitCodes
from keelway_workers.record import Record
from keelway_workers.targets.process import ProcessTarget
from tests.support.api import wait_until

AT_ONCE = 8


@pytest.fixture
def child():
    """The pid of a child that nobody has waited for."""
    process = subprocess.Popen(["sleep", "60"])
    process.returncode = 0  # who is tested waits for it
    yield process.pid
    _end(process.pid)


def _end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except (ProcessLookupError, ChildProcessError):
        return


def test_a_process_that_ends_while_it_is_looked_at_is_not_dead_without_an_exit_code(child, monkeypatch):
    target = ProcessTarget.__new__(ProcessTarget)  # what it looks at needs no node
    target._exit_codes = ExitCodes()

    def ends_now(pid, born):
        _end(pid)
        return False

    monkeypatch.setattr(procs, "is_alive", ends_now)

    assert target._instance(Record(name="r"), child).exit_code == -signal.SIGKILL


# Its first thread ends, and the process only once its input does.
FIRST_THREAD_ENDS = (
    "import ctypes, os, threading; "
    "threading.Thread(target=lambda: (os.read(0, 1), os._exit(3))).start(); "
    "ctypes.CDLL(None).pthread_exit(None)"
)


def test_a_process_whose_first_thread_alone_has_ended_runs_until_the_exit_code_is_there():
    target = ProcessTarget.__new__(ProcessTarget)
    target._exit_codes = ExitCodes()
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], stdin=subprocess.PIPE) as process:
        process.returncode = 0  # who is tested waits for it
        record = Record(name="r", pid=process.pid, born=procs.birth(process.pid))
        wait_until(lambda: procs.birth(process.pid) is None, "its first thread has ended: it is shown as a zombie")

        ending = target._instance(record, process.pid)
        process.stdin.close()
        wait_until(lambda: not target._instance(record, process.pid).is_alive, "all of it has ended")
        ended = target._instance(record, process.pid)

    assert (ending.is_alive, ending.exit_code) == (True, None)
    assert ended.exit_code == 3


def test_every_thread_that_asks_at_the_same_time_is_told_the_exit_code(child, monkeypatch):
    never, all_ask, waitpid = threading.Event(), threading.Barrier(AT_ONCE), os.waitpid

    def waits_and_is_put_aside(pid, options):
        answer = waitpid(pid, options)
        never.wait(0.2)  # the others run before it notes the answer
        return answer

    monkeypatch.setattr(os, "waitpid", waits_and_is_put_aside)
    codes = ExitCodes()
    _end(child)

    def ask(_):
        all_ask.wait()
        return codes.look(child)[1]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert set(pool.map(ask, range(AT_ONCE))) == {-signal.SIGKILL}


def test_a_child_that_runs_and_a_process_of_others_have_no_exit_code(child):
    codes = ExitCodes()

    assert codes.look(child) == (True, None)
    assert codes.look(1) == (False, None)


def test_the_exit_code_of_a_pid_that_is_used_again_is_forgotten(child):
    codes = ExitCodes()
    _end(child)
    assert codes.look(child) == (False, -signal.SIGKILL)

    codes.forget(child)

    assert codes.look(child) == (False, None)
