"""Clients that go about their business, and somebody who kills and stops processes meanwhile."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import time
from pathlib import Path

import psutil

from keelway.errors import InternalError, KeelwayError, OperationFailed
from tests.support.running import environ, family
from tests.support.scripts import ECHO
from tests.support.stack import Stack
from tests.support.user import User

CHILDREN = ("postgres", "redis", "s3", "gateway", "api", "worker", "supervisor")


class Customer:
    """Registers, deploys, scores and deletes until told to stop, and remembers everything that was acknowledged."""

    def __init__(self, stack: Stack, folder: Path, number: int, seed: int) -> None:
        self.user = User(stack, folder)
        self.acknowledged: dict[int, str] = {}
        self.tried = 0
        self.failed: list[OperationFailed] = []
        self.refused: list[KeelwayError] = []
        self.mistakes: list[BaseException] = []
        self.name = f"customer-{number}"
        self._random = random.Random(seed + number)
        self._services: list[str] = []
        self._count = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=self.name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, wait_s: float) -> None:
        """Stop after what is under way."""
        self._ending.set()
        self._thread.join(wait_s)
        assert not self._thread.is_alive(), f"{self.name} still waits for an answer after {wait_s} s"

    def _work(self) -> None:
        while not self._ending.is_set():
            action = self._random.choice([self._register, self._deploy, self._deploy, self._score, self._delete])
            try:
                action()
            except OperationFailed as error:
                self.failed.append(error)
            except InternalError as error:
                self.mistakes.append(error)
            except KeelwayError as error:
                self.refused.append(error)
            except Exception as error:
                self.mistakes.append(error)

    def _register(self) -> None:
        content = self._random.randbytes(self._random.randint(1, 200_000))
        self.tried += 1
        version = self.user.register(self.name, content)
        self.acknowledged[version.version] = hashlib.sha256(content).hexdigest()

    def _deploy(self) -> None:
        self._count += 1
        name = f"{self.name}-{self._count}"
        self._services.append(name)
        self.user.deploy(name, ECHO)

    def _score(self) -> None:
        if self._services:
            self.user.client.services.run(self._random.choice(self._services), {"data": [1]})

    def _delete(self) -> None:
        if self._services:
            self.user.delete(self._services.pop(0))


def torment(stack: Stack, seed: int, for_s: float) -> None:
    """Kill processes, or stop them for a while, one after the other, and print when what was done."""
    chance = random.Random(seed)
    began = time.monotonic()
    while time.monotonic() - began < for_s:
        time.sleep(chance.uniform(0.3, 2.5))
        name = chance.choice(CHILDREN)
        act = chance.choice([_kill, _kill, _kill_with_children, _stop_for_a_while])
        if (pid := stack.pid_of(name)) is not None and stack.child(name)["state"] == "running":
            print(f"{time.monotonic() - began:5.1f} s {act.__name__.strip('_')} {name}")
            act(pid, chance)


def _kill(pid: int, chance: random.Random) -> None:
    for process in family(pid)[:1]:
        _send(process, signal.SIGKILL)


def _kill_with_children(pid: int, chance: random.Random) -> None:
    for process in _bound(pid):
        _send(process, signal.SIGKILL)


def _stop_for_a_while(pid: int, chance: random.Random) -> None:
    processes = _bound(pid)
    for process in processes:
        _send(process, signal.SIGSTOP)
    time.sleep(chance.uniform(0.5, 7.0))  # the longer ones are longer than a lease
    for process in processes:
        _send(process, signal.SIGCONT)


def _bound(pid: int) -> list[psutil.Process]:
    """A process and its children, without replicas: those are no part of the supervisor."""
    return [process for process in family(pid) if process.pid == pid or "KEELWAY_REPLICA" not in environ(process)]


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
