"""The workers and what waits for them: who scores a request, how long, and what becomes of it when a worker dies."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from typing import Any, Callable

import orjson

from keelway_runtime import log
from keelway_runtime.messages import (
    ABOUT_ITSELF,
    COUNT,
    DROPPED,
    READY,
    ChannelError,
    Reply,
    refusal,
    replies_in,
    request_frames,
)
from keelway_runtime.settings import Settings

TICK_S = 0.05
PREFETCH = 32  # so that the only worker need not wait for the next request, while its script is as quick as this:
QUICK_MS = 10.0
BACKOFF_S, BACKOFF_MAX_S, PROVEN_S = 0.1, 10.0, 1.0
LAST_WORDS_S = 0.5  # for a worker that is told to go, beyond the grace
SOCKET_BYTES = 1024 * 1024

CRASHED = "The worker that scored this request ended before it answered. The service's log may say why."
TIMED_OUT = "Scoring took longer than {} ms"
FULL = "The service is busy: {} requests wait already"
WAITED = "The service is busy: the request waited for more than {} ms"


class Job:
    """One request on its way through a worker. `respond` is called once, unless nobody wants the answer any more."""

    __slots__ = ("began_at", "head", "is_timed_out", "number", "pieces", "queued_at", "respond")

    def __init__(self, head: tuple[Any, ...], pieces: list[bytes], respond: Callable[[Reply], None]) -> None:
        self.head, self.pieces = head, pieces
        self.respond: Callable[[Reply], None] | None = respond
        self.queued_at = time.monotonic()
        self.number = 0
        self.began_at: float | None = None
        self.is_timed_out = False

    def answer(self, reply: Reply) -> None:
        """Pass the answer on, once."""
        respond, self.respond = self.respond, None
        if respond:
            respond(reply)

    def forget(self) -> bool:
        """Nobody waits for it any more; whether anybody had. It is not scored if it has not begun."""
        was_wanted, self.respond, self.pieces = self.respond is not None, None, []
        return was_wanted

    def refuse(self, status: int, message: str) -> None:
        """Answer in place of the worker."""
        headers = "retry-after: 1\r\n" if status == 503 else ""
        self.answer(refusal(status, message, headers, has_run_failed=status != 503))


class Pool:
    """All workers of this server, and the queue before them."""

    def __init__(self, settings: Settings, *, on_unusable: Callable[[int], None]) -> None:
        """`on_unusable` is called with an exit code when the script cannot be loaded."""
        self.about: dict[str, Any] | None = None
        self.restarts = 0
        self.dropped_rows = 0
        self.on_batch: Callable[[int], None] = lambda size: None
        self._settings = settings
        self._on_unusable = on_unusable
        self._queue: deque[Job] = deque()
        self._workers: list[Worker] = []
        self._ticking: asyncio.TimerHandle | None = None
        self.is_closed = False
        self._backoff_s = BACKOFF_S

    @property
    def is_ready(self) -> bool:
        """Whether a worker would take a request now, or as soon as it has answered another."""
        return self.ready_workers > 0

    @property
    def ready_workers(self) -> int:
        """How many workers take requests."""
        return sum(worker.takes_requests for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Requests that no worker has yet."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is scored."""
        return not self._queue and not any(worker.jobs for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """The processes of all workers."""
        return [worker.pid for worker in self._workers if worker.pid]

    async def start(self) -> None:
        """Start all workers; they load the script by themselves."""
        for _ in range(self._settings.workers):
            await self._start_one()

    def submit(self, job: Job) -> None:
        """Have a request scored, now or when its turn comes."""
        self._queue.append(job)
        self._dispatch()
        if len(self._queue) > self._settings.max_queue:
            self._queue = deque(one for one in self._queue if one.respond)  # without those whose callers have left
            if len(self._queue) > self._settings.max_queue:
                self._queue.pop().refuse(503, FULL.format(len(self._queue)))
        if self._ticking is None:
            self._tick_later()

    async def close(self, grace_s: float) -> None:
        """Let the workers go: they end by themselves, or are killed."""
        self.is_closed = True
        for worker in self._workers:
            worker.let_go()
        ends_at = time.monotonic() + max(grace_s, LAST_WORDS_S)
        while self._workers and time.monotonic() < ends_at:  # noqa: ASYNC110 - a few turns at the end of a process
            await asyncio.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all workers."""
        self.is_closed = True
        for worker in self._workers:
            worker.kill()

    async def _start_one(self) -> None:
        worker = Worker(self, self._settings)
        self._workers.append(worker)
        try:
            await worker.start()
        except OSError:
            self._workers.remove(worker)
            worker.discard()
            raise

    def _dispatch(self) -> None:
        while self._queue:
            free = [worker for worker in self._workers if worker.has_room]
            if not free:
                return
            worker = min(free, key=lambda one: len(one.jobs)) if len(free) > 1 else free[0]
            job = self._queue.popleft()
            if job.respond is not None:
                worker.send(job)

    def became_ready(self, about: dict[str, Any]) -> None:
        """A worker has loaded the script."""
        self.about = about
        self._dispatch()

    def has_room_again(self) -> None:
        """A worker has answered."""
        self._dispatch()

    def ended(self, worker: Worker, code: int) -> None:
        """A worker's process is gone: what it had begun fails, what it had not goes back to the front of the queue."""
        self._workers.remove(worker)
        begun = worker.begun
        for job in worker.jobs.values():
            if job.number <= begun:
                job.refuse(502, CRASHED)
        self._queue.extendleft(job for job in reversed(list(worker.jobs.values())) if job.number > begun)
        worker.jobs.clear()
        if self.is_closed:
            return
        log.event("worker ended", pid=worker.pid, exit_code=code, was_ready=worker.was_ready)
        if not worker.was_ready and not self.is_ready:
            self._on_unusable(code)
            return
        self.restarts += 1
        if worker.was_ready and time.monotonic() - worker.ready_at > PROVEN_S:
            self._backoff_s = BACKOFF_S
        self._restart_in(0 if worker.is_condemned else self._backoff_s)

    def _restart_in(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._restart)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)

    def _restart(self) -> None:
        if not self.is_closed:
            self._starting = asyncio.ensure_future(self._try_to_start())

    async def _try_to_start(self) -> None:
        try:
            await self._start_one()
        except OSError as error:  # no process, descriptor or memory is to be had just now
            log.event("worker not started", error=str(error))
            self._restart_in(self._backoff_s)

    def _tick_later(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        while self._queue and now - self._queue[0].queued_at > self._settings.max_queue_wait_ms / 1000:
            job = self._queue.popleft()
            job.refuse(503, WAITED.format(self._settings.max_queue_wait_ms))
        for worker in self._workers:
            worker.check_time(now)
        self._ticking = None
        if not self.is_idle:
            self._tick_later()


class Worker(asyncio.Protocol):
    """One worker process, seen from the front. `jobs` by number, which counts what was sent to it."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.jobs: dict[int, Job] = {}
        self.was_ready = False
        self.ready_at = 0.0
        self.is_condemned = False
        self.pid = 0
        self._pool, self._settings = pool, settings
        self._window = self._at_once = self._spare = 0
        self._sent = 0
        self._buffer = bytearray()
        self._outgoing: list[tuple[Any, ...]] = []
        self._process: asyncio.SubprocessTransport | None = None
        self._transport: Any = None
        self._rest: socket.socket | None = None  # the same socket, whatever becomes of the transport
        self._counter = _shared_file(COUNT.size)
        self._begun = mmap.mmap(self._counter, COUNT.size)
        self._kill_at = 0.0
        self._last_begun, self._still_since = -1, 0.0

    @property
    def takes_requests(self) -> bool:
        """Whether it has loaded the script and is not to be replaced."""
        return self.was_ready and not self.is_condemned and self._transport is not None

    @property
    def has_room(self) -> bool:
        """Whether it takes one more request now."""
        return len(self.jobs) < self._window and self.takes_requests

    @property
    def begun(self) -> int:
        """The number of the last request that it has begun; it writes this down itself, in memory that outlives it."""
        return COUNT.unpack_from(self._begun)[0]

    async def start(self) -> None:
        """Start the process, connected by a socket of which it has the other end."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            ours.setblocking(False)
            self._rest = ours.dup()
            self._transport, _ = await loop.create_connection(lambda: self, sock=ours)
            fds = {"KEELWAY_CHANNEL_FD": theirs.fileno(), "KEELWAY_BEGUN_FD": self._counter}
            told = {**fds, "KEELWAY_FRONT_PID": os.getpid()}
            self._process, _ = await loop.subprocess_exec(
                lambda: _Ending(self._process_ended),
                *(sys.executable, "-m", "keelway_runtime.worker"),
                stdin=None,
                stdout=None,
                stderr=None,
                start_new_session=True,  # so that what it starts can be ended with it
                pass_fds=tuple(fds.values()),
                env={**os.environ, **{name: str(value) for name, value in told.items()}},
            )
        self.pid = self._process.get_pid()

    def send(self, job: Job) -> None:
        """Give it a request. All of one turn of the event loop go out together."""
        self._sent += 1
        job.number, job.began_at = self._sent, None
        self.jobs[job.number] = job
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append((job.number, *job.head, job.pieces))

    def let_go(self) -> None:
        """Nothing more will come: it ends once it has read that."""
        if self._rest is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._rest.shutdown(socket.SHUT_WR)
        if self.pid and not self.was_ready:  # it does not read yet
            self.kill()

    def kill(self) -> None:
        """SIGKILL, to all that it has started as well."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def discard(self) -> None:
        """Give back what belongs to it; its process has ended or never was."""
        if self._transport is not None:
            self._transport.close()
        if self._rest is not None:
            self._rest.close()
        self._begun.close()
        os.close(self._counter)

    def check_time(self, now: float) -> None:
        """Answer what takes too long. A worker that does not come back afterwards, or begins nothing, is replaced."""
        begun, limit_s = self.begun, self._settings.scoring_timeout_ms / 1000
        late = [job for job in self.jobs.values() if job.number <= begun]
        for job in late:
            job.began_at = job.began_at or now
            if now - job.began_at > limit_s and not job.is_timed_out:
                job.is_timed_out = True
                job.refuse(504, TIMED_OUT.format(self._settings.scoring_timeout_ms))
                self._kill_at = self._kill_at or now + min(limit_s, 1.0)
        if self._kill_at and not any(job.is_timed_out for job in late):
            self._kill_at = 0.0
        if late or not self.jobs or begun != self._last_begun:
            self._last_begun, self._still_since = begun, now
        # Others that it scores at the same time are let finish, each for as long as it may take.
        is_lost = self._kill_at and now > self._kill_at and all(job.is_timed_out for job in late)
        if not self.is_condemned and (is_lost or now - self._still_since > limit_s):
            log.event("worker does not come back", pid=self.pid)
            self.is_condemned = True
            self.kill()

    def data_received(self, data: bytes) -> None:
        """Answers, or a part of one."""
        self._buffer += data
        try:
            for reply in replies_in(self._buffer, body_max=self._settings.max_answer_bytes):
                self._heard(reply)
        except (ChannelError, KeyError, TypeError, ValueError) as error:
            log.event("worker broke off", pid=self.pid, reason=str(error))
            self.kill()
            return
        self._pool.has_room_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Its end of the socket is closed: it has ended, or will not be heard of again."""
        self._transport = None
        if not self._pool.is_closed:
            self.kill()

    def _process_ended(self) -> None:
        assert self._process is not None
        self.kill()
        process, self._process = self._process, None
        code = process.get_returncode()
        process.close()
        self._read_rest()
        self._pool.ended(self, 1 if code is None else code)
        self.discard()

    def _read_rest(self) -> None:
        """Hear what it wrote before it ended: a transport that could not write any more has not read it."""
        self._window = self._at_once = self._spare = 0
        with contextlib.suppress(OSError):  # nothing more is there
            while self._rest is not None and (data := self._rest.recv(SOCKET_BYTES)):
                self.data_received(data)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None:
            self._transport.writelines(request_frames(outgoing))

    def _heard(self, reply: Reply) -> None:
        if reply.number != ABOUT_ITSELF:
            job = self.jobs.pop(reply.number, None)
            if job is None:
                raise ChannelError("a worker answered what it was not asked")
            is_quick = reply.run_ms is None or reply.run_ms < QUICK_MS
            self._window = self._at_once + (self._spare if is_quick else 0)
            if reply.batch:
                self._pool.on_batch(reply.batch)
            job.answer(reply)
        elif reply.batch == READY:
            about = orjson.loads(reply.body)
            self.was_ready, self.ready_at = True, time.monotonic()
            self._window = self._at_once = about["at_once"] + about["batch"]
            self._spare = PREFETCH if self._settings.workers == self._at_once == 1 else 0
            log.event("ready", pid=self.pid, script=about["script"], revision=self._settings.revision, ms=about["ms"])
            self._pool.became_ready(about)
        elif reply.batch == DROPPED:
            self._pool.dropped_rows += orjson.loads(reply.body)


class _Ending(asyncio.SubprocessProtocol):
    """Tells when a process has ended."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end

    def process_exited(self) -> None:
        """It has."""
        self._on_end()


def _shared_file(size: int) -> int:
    """A descriptor of memory that two processes can map."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("keelway-begun")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    return fd
