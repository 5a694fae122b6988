import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from keelway_standalone.child import Child, Program
from keelway_standalone.errors import PortTaken, StartFailed
from keelway_standalone.processes import Processes

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w'); time.sleep(60)"


@pytest.fixture
async def processes():
    """Children of this test run; the signal handler goes with the test's loop."""
    processes = Processes()
    yield processes
    processes.kill_all()
    processes.close()


@pytest.fixture
def said():
    return []


@pytest.fixture
def child_of(processes, said, tmp_path):
    def make(code, **changes):
        defaults = {"is_ready": lambda: True, "start_limit_s": 5.0, "stop_grace_s": 0.3}
        program = Program(
            name="thing",
            argv=[sys.executable, "-c", code],
            env={},
            cwd=tmp_path,
            log=tmp_path / "thing.log",
            **(defaults | changes),
        )
        return Child(program, processes, changed=lambda: None, say=said.append)

    return make


async def until(holds):
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_child_that_is_killed_is_started_again(child_of, said):
    child = child_of(SLEEP)
    child.start()
    await child.ready()
    first = child.status()["pid"]

    os.kill(first, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.state == "running")

    status = child.status()
    assert status["pid"] != first
    assert status["last_exit"] == "killed by SIGKILL"
    assert any("killed by SIGKILL" in line for line in said)
    await child.stop()


async def test_a_child_that_finds_its_port_taken_fails_at_once(child_of):
    child = child_of("import sys; sys.exit('Address already in use')", is_ready=lambda: False)
    child.start()

    with pytest.raises(PortTaken) as failure:
        await child.ready()

    assert (failure.value.reason, child.restarts) == ("its port is taken (exit code 1)", 0)


async def test_a_child_that_ends_alone_three_times_fails_with_what_it_wrote_last(child_of):
    child = child_of("import sys; sys.exit('No space left on device')", is_ready=lambda: False)
    child.start()

    with pytest.raises(StartFailed) as failure:
        await child.ready()

    assert failure.value.reason == "the disk is full (exit code 1)"
    assert failure.value.log_tail == ["No space left on device"]
    assert child.restarts == 2


async def test_a_child_that_never_works_fails_after_its_limit(child_of):
    child = child_of(SLEEP, is_ready=lambda: False, start_limit_s=0.3)
    child.start()

    with pytest.raises(StartFailed, match="not ready after"):
        await child.ready()
    await child.stop()


async def test_a_missing_program_is_named(child_of):
    child = child_of(SLEEP)
    object.__setattr__(child.program, "argv", ["/nowhere/thing"])
    child.start()

    with pytest.raises(StartFailed, match="/nowhere/thing is missing"):
        await child.ready()


async def test_a_child_that_ignores_its_signal_is_killed_after_its_grace(child_of, tmp_path):
    child = child_of(STUBBORN, is_ready=(tmp_path / "up").exists)
    child.start()
    await child.ready()

    await child.stop()

    assert child.state == "stopped"
    assert child.status()["pid"] is None


async def test_a_child_that_never_started_can_be_stopped(child_of):
    await child_of(SLEEP).stop()


async def test_what_a_dead_child_started_dies_with_it(child_of, tmp_path):
    fork = "import os, time; p = os.fork(); p and open('pid', 'w').write(str(p)); time.sleep(60)"
    child = child_of(fork, is_ready=lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    child.start()
    await child.ready()
    grandchild = int((tmp_path / "pid").read_text())

    os.kill(child.status()["pid"], signal.SIGKILL)

    await until(lambda: not Path(f"/proc/{grandchild}").exists())
    await child.stop()


async def test_a_child_may_be_interrupted_though_we_ignore_interrupts(child_of, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = child_of("import time; open('up', 'w'); time.sleep(60)", is_ready=(tmp_path / "up").exists)
        child.start()
        await child.ready()
        os.kill(child.status()["pid"], signal.SIGINT)
        await until(lambda: child.restarts == 1)
        await child.stop()
    finally:
        signal.signal(signal.SIGINT, before)
