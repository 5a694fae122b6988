"""An entry script that does what no script should: POST the name of a function here, and it is called in run()."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ANSWER = struct.Struct("<QIIIHHBd")  # number, lengths of type, headers and body, status, batch, flags, run_ms
CATCHABLE = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
LONG_S = 600
GIBIBYTE = 1024**3


def init() -> None:
    """Nothing is to be loaded."""


def run(raw: str) -> Any:
    """Do it; anything that is no act is echoed."""
    act = globals().get(raw)
    return act() if act else raw


class Odd(Exception):
    """What an error should not be: one that cannot be printed."""

    def __str__(self) -> str:
        return str(1 / 0)


class Endless:
    """What cannot be made JSON, though it says so."""

    def tolist(self) -> Endless:
        return self


# --- those that end the worker


def segfault() -> None:
    ctypes.string_at(0)


def exit_with_0() -> None:
    os._exit(0)


def abort() -> None:
    os.abort()


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_its_group() -> None:
    os.killpg(0, signal.SIGKILL)


def overflow_the_stack(_: int = 0) -> None:
    sys.setrecursionlimit(10**9)
    sorted([0], key=overflow_the_stack)  # type: ignore[call-overload,arg-type]  # through C, whose stack has an end


def close_all_descriptors() -> None:
    os.closerange(0, 4096)


def close_the_channel() -> None:
    for fd in _sockets():
        os.close(fd)


# --- those that fail


def quit_python() -> None:
    sys.exit(1)


def recurse() -> None:
    recurse()


def take_too_much_memory() -> None:
    bytes(2**60)


def return_a_gibibyte() -> str:
    return "x" * GIBIBYTE


def return_a_circle() -> list:
    circle: list = []
    circle.append(circle)
    return circle


def return_a_deep_list() -> list:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def return_what_never_ends() -> Endless:
    return Endless()


def raise_what_cannot_be_printed() -> None:
    raise Odd


# --- those that never come back


def sleep() -> None:
    time.sleep(LONG_S)


def spin() -> None:
    while True:
        pass


def hold_the_lock_in_a_regex() -> None:
    re.match(r"(a+)+$", "a" * 50 + "b")


def hold_the_lock_in_a_power() -> None:
    print(3**300_000_000 % 7)


def deadlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def ignore_all_signals() -> None:
    for number in CATCHABLE:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(LONG_S)


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONG_S)


def wait_for_a_child() -> None:
    subprocess.run(["sleep", str(LONG_S)], check=False)


def print_for_ever() -> None:
    while True:
        print("a" * 1000)


def catch_everything() -> None:
    while True:
        try:
            time.sleep(LONG_S)
        except BaseException:
            continue


# --- those that write to the front what they should not


def _sockets() -> list[int]:
    fds = (fd for fd in range(100) if Path(f"/proc/self/fd/{fd}").exists())
    return [fd for fd in fds if stat.S_ISSOCK(os.fstat(fd).st_mode)]


def _tell(data: bytes) -> None:
    for fd in _sockets():
        os.write(fd, data)


def tell_zeros() -> None:
    _tell(bytes(1000))


def tell_random_bytes() -> None:
    _tell(os.urandom(1000))


def tell_a_few_bytes() -> None:
    _tell(b"abc")


def tell_half_an_answer() -> None:
    _tell(ANSWER.pack(1, 0, 0, 10**8, 200, 0, 0, 0.0))


def tell_a_huge_answer() -> None:
    _tell(ANSWER.pack(1, 0, 0, 2**32 - 1, 200, 0, 0, 0.0))


def answer_nobody() -> None:
    _tell(ANSWER.pack(9999, 0, 0, 0, 200, 0, 0, 0.0))


def tell_of_itself_too_little() -> None:
    _tell(ANSWER.pack(0, 0, 0, 2, 200, 1, 0, 0.0) + b"{}")


def tell_of_itself_no_json() -> None:
    _tell(ANSWER.pack(0, 0, 0, 2, 200, 1, 0, 0.0) + b"{{")


def tell_that_text_was_dropped() -> None:
    _tell(ANSWER.pack(0, 0, 0, 3, 200, 2, 0, 0.0) + b'"a"')


def answer_not_a_number() -> None:
    _tell(ANSWER.pack(0, 0, 0, 1, 200, 2, 0, float("nan")) + b"1")


# --- those that answer, and leave something behind


def start_threads() -> None:
    for _ in range(50):
        threading.Thread(target=time.sleep, args=(LONG_S,)).start()


def start_programs() -> None:
    for _ in range(5):
        subprocess.Popen(["sleep", str(LONG_S)])


def fork_and_return_twice() -> None:
    os.fork()


def fork_and_stay() -> None:
    for _ in range(20):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(LONG_S)


def change_directory_and_umask() -> None:
    os.chdir("/")
    os.umask(0o777)


def empty_the_environment() -> None:
    os.environ.clear()
    sys.path.clear()
    sys.argv.clear()


def replace_stdout() -> None:
    sys.stdout = sys.stderr = object()  # type: ignore[assignment]


def have_no_stdout() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


def close_stdout() -> None:
    print("a last line without its end", end="")
    sys.stdout.close()
    os.close(1)
    os.close(2)


def take_all_signals() -> None:
    for number in CATCHABLE:
        signal.signal(number, lambda *_: None)


def have_an_alarm_later() -> None:
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 0.2)


def end_slowly() -> None:
    atexit.register(time.sleep, LONG_S)


def end_badly() -> None:
    atexit.register(os.abort)


def log_what_cannot_be_formatted() -> None:
    logging.error("%d", "a")
    logging.error("a" * 2 * 10**6)
    os.write(2, b"{not JSON\n" * 1000)


def hold_the_lock_later() -> None:
    threading.Timer(0.1, hold_the_lock_in_a_power).start()


def take_all_descriptors() -> None:
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass


def set_a_timeout_for_all_sockets() -> None:
    socket.setdefaulttimeout(0.01)


def write_a_gibibyte() -> None:
    for _ in range(1024):
        os.write(1, b"a" * 2**20)


def print_a_gibibyte() -> None:
    for _ in range(1024):
        print("a" * 2**20)
