"""Many clients at once: processes of threads, so that the clients are not what is measured."""

from __future__ import annotations

import http.client
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from urllib.parse import urlsplit

PROCESSES = 4


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


MakeCall = Callable[[int], Call]  # of a number that no two requests share


@dataclass(frozen=True)
class Load:
    """What the clients saw: seconds of each request, and requests per second of all."""

    times_s: list[float]
    rate: float


def run(url: str, make: MakeCall, *, clients: int = 16, seconds: float = 4.0) -> Load:
    """Each client sends one request after the other on one connection. Raises RuntimeError for any answer above 299."""
    results: Queue[tuple[list[float], list[str]]] = multiprocessing.Queue()
    processes = min(PROCESSES, clients)
    each = clients // processes
    starts_at = time.time() + 0.5
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=_process, args=(url, make, each, number, starts_at, seconds, results))
        for number in range(processes)
    ]
    for process in started:
        process.start()
    found = [results.get(timeout=seconds + 60) for _ in started]
    for process in started:
        process.join()
    errors = [error for _, some in found for error in some]
    if errors:
        raise RuntimeError(f"{len(errors)} requests failed: {errors[0]}")
    times = [took for some, _ in found for took in some]
    return Load(times, len(times) / seconds)


def _process(
    url: str,
    make: MakeCall,
    clients: int,
    process: int,
    starts_at: float,
    seconds: float,
    results: Queue[tuple[list[float], list[str]]],
) -> None:
    times: list[float] = []
    errors: list[str] = []
    numbers = itertools.count((os.getpid() * 64 + process) * 1_000_000)

    def client() -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        while time.time() < starts_at:
            time.sleep(0.005)
        ends_at = starts_at + seconds
        while (began := time.time()) < ends_at:
            call = make(next(numbers))
            connection.request(call.method, call.path, call.body, dict(call.headers))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status > 299:
                errors.append(f"{answer.status} {body[:300]!r}")
                return
            if time.time() <= ends_at:
                times.append(time.time() - began)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((times, errors))
