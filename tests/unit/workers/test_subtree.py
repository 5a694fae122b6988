"""Commands and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from keelway_workers import procs
from keelway_workers.failures import WorkStopped
from keelway_workers.subtree import MARK, Subtree, end_abandoned

ENV = {"PATH": "/usr/bin:/bin"}
DOUBLE_FORK = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(f"grandchild {os.getpid()}", flush=True)
        time.sleep(100)
    os._exit(0)
time.sleep(float(sys.argv[1]))
"""


def run(subtree: Subtree, code: str, *arguments: str, lines: list[str] | None = None, timeout_s: float = 20):
    on_line = (lines if lines is not None else []).append
    return subtree.run([sys.executable, "-c", code, *arguments], env=ENV, on_line=on_line, timeout_s=timeout_s)


def wait_for_line(lines: list[str]) -> str:
    ends_at = time.monotonic() + 10
    while not lines and time.monotonic() < ends_at:
        time.sleep(0.01)
    return lines[0]


def pid_in(line: str) -> int:
    return int(line.split()[1])


def test_output_is_streamed_and_its_end_kept():
    lines: list[str] = []

    finished = run(Subtree(), "print('one'); print('two'); raise SystemExit(4)", lines=lines)

    assert finished.returncode == 4
    assert lines == finished.tail == ["one", "two"]


def test_a_command_sees_only_the_given_environment():
    finished = run(Subtree(), "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))")

    assert finished.tail == [f"['{MARK}', 'PATH']"]


def test_a_command_that_does_not_exist_says_so():
    finished = Subtree().run(["/no/such/command"], env=ENV, on_line=lambda _: None, timeout_s=5)

    assert finished.returncode != 0
    assert "/no/such/command" in finished.tail[0]


def test_a_command_that_takes_too_long_is_ended():
    finished = run(Subtree(), "import time; time.sleep(100)", timeout_s=0.5)

    assert finished.timed_out


def test_a_grandchild_that_left_the_group_ends_with_its_command():
    lines: list[str] = []

    run(Subtree(), DOUBLE_FORK, "0.5", lines=lines)

    assert procs.birth(pid_in(lines[0])) is None


def test_killing_a_subtree_reaches_a_double_fork_at_once():
    subtree, lines = Subtree(), []

    def work() -> None:
        with pytest.raises(WorkStopped):
            run(subtree, DOUBLE_FORK, "100", lines=lines)

    thread = threading.Thread(target=work)
    thread.start()
    grandchild = pid_in(wait_for_line(lines))
    subtree.kill()
    thread.join(timeout=5)

    assert not thread.is_alive()
    assert procs.birth(grandchild) is None


def test_a_killed_subtree_starts_nothing_more():
    subtree = Subtree()
    subtree.kill()

    with pytest.raises(WorkStopped):
        run(subtree, "print('too late')")


def test_what_a_killed_worker_leaves_behind_is_ended(tmp_path):
    worker = (
        "import sys\n"
        "from keelway_workers.subtree import Subtree\n"
        "env = {'PATH': '/usr/bin:/bin'}\n"
        "argv = [sys.executable, '-c', sys.argv[1], '100']\n"
        "Subtree().run(argv, env=env, on_line=lambda line: print(line, flush=True), timeout_s=100)\n"
    )
    argv = [sys.executable, "-c", worker, DOUBLE_FORK]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        grandchild = pid_in(process.stdout.readline())
        command = int((procs.PROC / str(process.pid) / "task" / str(process.pid) / "children").read_text().split()[0])
        process.kill()
    time.sleep(0.2)

    assert procs.birth(command) is None, "it dies with its worker"
    assert procs.birth(grandchild) is not None
    assert end_abandoned() >= 1
    assert procs.birth(grandchild) is None


def test_our_own_commands_are_not_abandoned():
    subtree, lines = Subtree(), []
    thread = threading.Thread(
        target=lambda: run(subtree, "import time; print('up 0', flush=True); time.sleep(1)", lines=lines)
    )
    thread.start()
    wait_for_line(lines)

    end_abandoned()
    mine = [pid for pid, variables in procs.marked(MARK).items() if variables[MARK] == subtree.mark]
    thread.join()

    assert mine


def test_a_pid_that_was_used_again_is_another_process():
    born = procs.birth(os.getpid())

    assert procs.is_alive(os.getpid(), born)
    assert not procs.is_alive(os.getpid(), f"{born}0")
    assert not procs.is_alive(None, None)


def test_a_zombie_is_not_alive():
    process = subprocess.Popen(["/bin/true"])
    while procs.birth(process.pid) is not None:
        time.sleep(0.01)

    assert (procs.PROC / str(process.pid)).exists()
    process.wait()
