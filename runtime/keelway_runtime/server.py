"""The front process: socket, signals, workers, ending. None of the user's code runs in it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import time
from typing import NoReturn

from keelway_runtime import log, memory
from keelway_runtime.access import Access
from keelway_runtime.app import Application
from keelway_runtime.http import Connections
from keelway_runtime.pool import Pool
from keelway_runtime.settings import Settings, SettingsError

BACKLOG = 2048
SWEEP_S = 1.0
POLL_S = 0.02
NEW_OBJECTS = 50_000  # before the collector looks at them


def serve(settings: Settings) -> NoReturn:
    """Serve until SIGTERM, then end the process: 0 after a stop, 3 when the entry script cannot be loaded.

    Raises SettingsError before anything is loaded when the socket is not to be had or the keys cannot be read.
    """
    access = Access(settings)
    listener = _listener(settings)
    log.configure()
    _take_turns()
    _allow_connections()
    server = Server(settings, access)
    memory.reuse()
    _collect_seldom()
    loop = _new_event_loop()
    asyncio.set_event_loop(loop)
    code = loop.run_until_complete(server.run(listener))
    log.event("stopped")
    _end(code)


class Server:
    """One run of the server."""

    def __init__(self, settings: Settings, access: Access) -> None:
        self._settings, self._access = settings, access
        self._pool = Pool(settings, on_unusable=self._end_unloaded)
        self._application = Application(settings, self._pool, access)
        self._connections = Connections(
            self._application, max_connections=settings.max_connections, max_body_bytes=settings.max_body_bytes
        )

    async def run(self, listener: socket.socket) -> int:
        """Serve until a signal comes; the exit code."""
        loop, settings = asyncio.get_running_loop(), self._settings
        self._stopping = asyncio.Event()  # here, as Python 3.9 ties it to the loop that is current
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        server = await loop.create_server(self._connections.new, sock=listener, backlog=BACKLOG)
        host, port = listener.getsockname()[:2]
        log.event("listening", host=host, port=port, service=settings.service_name, workspace=settings.workspace)
        await self._pool.start()
        sweeping = asyncio.ensure_future(self._sweep())
        await self._stopping.wait()
        server.close()
        await self._finish(time.monotonic() + settings.grace_s)
        sweeping.cancel()
        return 0

    async def _finish(self, ends_at: float) -> None:
        """Let requests in flight be answered, as long as the grace lasts."""
        if self._pool.about is not None:
            while time.monotonic() < ends_at and not self._is_finished():  # noqa: ASYNC110 - as in Pool.close
                await asyncio.sleep(POLL_S)
        if self._pool.is_idle:
            await self._pool.close(ends_at - time.monotonic())
        else:
            self._pool.kill()
        self._connections.abort()

    def _is_finished(self) -> bool:
        return self._connections.close_idle() and self._pool.is_idle

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._connections.sweep()
            self._access.refresh()

    def _signalled(self, number: int) -> None:
        """Begin to stop; a second signal ends at once."""
        if self._stopping.is_set():
            self._pool.kill()
            _end(128 + number)
        self._application.is_stopping = True
        self._stopping.set()
        log.event("stopping", signal=signal.Signals(number).name)

    def _end_unloaded(self, code: int) -> None:
        """Nothing can be scored, so the process ends as its worker did: whoever started it sees why."""
        self._pool.kill()
        if code < 0:
            log.flush()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
            os.kill(os.getpid(), -code)
            time.sleep(1)  # the signal comes within it
        _end(code)


def _allow_connections() -> None:
    """As many descriptors as this user may have: the usual limit is about that of the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_seldom() -> None:
    """Look for garbage in cycles seldom: requests make thousands of objects and, but for a few of them, no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def _take_turns() -> None:
    """Have the kernel let front and workers work off what has come before it switches between them.

    Each message would else wake the other at once, where they share a core: a third of the time for each request.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # where it is forbidden, things are only slower
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end(code: int) -> NoReturn:
    log.flush()
    os._exit(code)


def _listener(settings: Settings) -> socket.socket:
    try:
        if settings.listen_fd is not None:
            listener = socket.socket(fileno=settings.listen_fd)
        else:
            listener = socket.create_server((settings.host, settings.port), family=_family(settings.host))
        listener.listen(BACKLOG)  # from here on a caller waits a moment instead of being refused
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        place = address if settings.listen_fd is None else f"descriptor {settings.listen_fd}"
        raise SettingsError(f"cannot listen on {place}: {error.strerror or error}") from error
    # Else a worker, and whatever the script starts, would hold the port after this process has ended.
    listener.set_inheritable(False)
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _new_event_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
