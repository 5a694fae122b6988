"""`python -m keelway_runtime.worker`: one process that loads the entry script and scores what the front sends it.

It is the only place where the user's code runs. A plain run() is called in the main thread, one request after the
other; in several threads where the deployment asks for it; an async one is awaited.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import faulthandler
import gc
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Mapping, NoReturn

import orjson

from keelway_runtime import log, memory, model_path, shims
from keelway_runtime.arguments import Call
from keelway_runtime.batching import Batcher
from keelway_runtime.messages import (
    ABOUT_ITSELF,
    COUNT,
    DROPPED,
    READY,
    REQUESTS,
    Asked,
    Reply,
    read_requests,
    reply_frame,
)
from keelway_runtime.rawhttp import ResponseHeaders
from keelway_runtime.scoring import Answer, Scorer, error_answer
from keelway_runtime.script import ScriptError, entry_path, load_entry, prepare_process
from keelway_runtime.settings import Settings

EXIT_SCRIPT_FAILED = 3
ASYNC_AT_ONCE = 100
PR_SET_PDEATHSIG = 1
HEADERS_MAX = 64 * 1024
TOO_LARGE = "The script's answer is too large: {} bytes of body and {} of headers are sent at most"


class Channel:
    """The worker's end of the socket to the front. Any thread may answer."""

    def __init__(self, fd: int, begun_fd: int) -> None:
        self.socket = socket.socket(fileno=os.dup(fd))  # a low number, which select() can take, and not inheritable
        os.close(fd)
        self._begun = mmap.mmap(begun_fd, COUNT.size)
        os.close(begun_fd)
        self._count = 0
        self._asked: list[Asked] = []
        self._lock = threading.Lock()
        # A process that the script forks goes its own way: what it would answer, nobody asked it.
        os.register_at_fork(after_in_child=self.socket.close)

    def next(self) -> Asked:
        """The next request. Raises EOFError when there will be none."""
        while not self._asked:
            self._read(wait=True)
        return self._asked.pop(0)

    def more(self, at_most: int, *, wait_until: float) -> list[Asked]:
        """Requests that are here already, or come until then (monotonic)."""
        while len(self._asked) < at_most:
            if not self._read(wait=False):
                left = wait_until - time.monotonic()
                if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                    break
        taken, self._asked = self._asked[:at_most], self._asked[at_most:]
        return taken

    def begin(self, count: int = 1) -> None:
        """Write down that so many more requests have begun, where it outlives this process."""
        self._count += count
        COUNT.pack_into(self._begun, 0, self._count)

    def tell(self, *replies: Reply) -> None:
        """Send replies, all of them together."""
        frames = b"".join(map(reply_frame, replies))
        with self._lock:
            self.socket.sendall(frames)

    def _read(self, *, wait: bool) -> bool:
        """Read what has come; whether anything had. Raises EOFError."""
        try:
            start = self.socket.recv(REQUESTS.size, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not start:
            raise EOFError
        self._asked += read_requests(self._exactly, start)
        return True

    def _exactly(self, size: int) -> bytes:
        """What the front is sending already. Raises EOFError."""
        data = b""
        while len(data) < size:  # nearly always once: only a signal ends it earlier
            came = self.socket.recv(size - len(data), socket.MSG_WAITALL)
            if not came:
                raise EOFError
            data = data + came if data else came
        return data


class Worker:
    """What is asked, scored."""

    def __init__(self, channel: Channel, scorer: Scorer, settings: Settings) -> None:
        self._channel, self._scorer, self._settings = channel, scorer, settings
        self._batcher = Batcher.of(scorer, settings)
        self._dropped = 0

    def about(self, ms: int) -> dict[str, Any]:
        """What the front has to know of the script."""
        schema = self._scorer.schema
        asked = self._settings.max_concurrent_requests
        return {
            "ms": ms,
            "script": self._settings.no_code or str(entry_path(self._settings)),
            "schema": {part: getattr(schema, part) for part in ("input", "output", "required", "versions")},
            "is_raw": self._scorer.is_raw,
            "needs_headers": self._scorer.arguments.needs_headers,
            "at_once": max(asked, ASYNC_AT_ONCE) if self._scorer.is_async and asked == 1 else asked,
            "batch": 2 * self._batcher.max_size if self._batcher else 0,
        }

    def run(self) -> None:
        """Score until there is nothing more to come."""
        if self._scorer.is_async:
            asyncio.run(self._run_async())
        elif self._batcher:
            self._run_batches(self._batcher)
        elif self._settings.max_concurrent_requests > 1:
            self._run_threads()
        else:
            self._run_plain()

    def _run_plain(self) -> None:
        while True:
            asked = self._channel.next()
            self._channel.begin()
            self._channel.tell(self._reply(asked, self._score(asked)))

    def _run_threads(self) -> None:
        taking, is_over = threading.Lock(), threading.Event()

        def work() -> None:
            try:
                while True:
                    with taking:  # none is begun before a thread is free for it
                        asked = self._channel.next()
                        self._channel.begin()
                    self._channel.tell(self._reply(asked, self._score(asked)))
            except (EOFError, OSError):
                is_over.set()

        for number in range(self._settings.max_concurrent_requests):
            threading.Thread(target=work, name=f"scoring-{number}", daemon=True).start()
        is_over.wait()

    def _run_batches(self, batcher: Batcher) -> None:
        while True:
            batch = [self._channel.next()]
            wait_until = time.monotonic() + batcher.max_delay_s
            batch += self._channel.more(batcher.max_size - 1, wait_until=wait_until)
            self._channel.begin(len(batch))
            log.request_id.set(batch[0].id if len(batch) == 1 else "")
            answers = batcher.score([_call(asked) for asked in batch])
            replies = [self._reply(asked, answer) for asked, answer in zip(batch, answers)]
            replies[0] = replies[0]._replace(batch=len(batch))
            self._channel.tell(*replies)

    async def _run_async(self) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        tasks: set[asyncio.Task[None]] = set()

        async def work(asked: Asked) -> None:
            log.request_id.set(asked.id)
            self._channel.tell(self._reply(asked, await self._scorer.score_async(_call(asked))))

        def read() -> None:
            try:
                come = self._channel.more(ASYNC_AT_ONCE, wait_until=0)
            except EOFError:
                ended.set_result(None)
                loop.remove_reader(self._channel.socket)
                return
            self._channel.begin(len(come))
            for asked in come:
                task = loop.create_task(work(asked))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        loop.add_reader(self._channel.socket, read)
        await ended

    def _score(self, asked: Asked) -> Answer:
        log.request_id.set(asked.id)
        return self._scorer.score(_call(asked))

    def _reply(self, asked: Asked, answer: Answer) -> Reply:
        headers = _lines(answer.headers) if answer.headers else b""
        limit = self._settings.max_answer_bytes
        if len(answer.body) > limit or len(headers) > HEADERS_MAX:
            log.event("answer too large", size_bytes=len(answer.body), headers_bytes=len(headers))
            body = error_answer(500, TOO_LARGE.format(limit, HEADERS_MAX)).body
            answer, headers = Answer(500, body, run_ms=answer.run_ms, has_run_failed=True), b""
        kind = answer.content_type.encode("latin-1")
        self._tell_dropped()
        return Reply(answer.status, answer.body, kind, headers, answer.run_ms, answer.has_run_failed, asked.number)

    def _tell_dropped(self) -> None:
        collect = sys.modules.get("keelway_runtime.collect")
        if collect is None or (dropped := collect.dropped_rows()) == self._dropped:
            return
        body = orjson.dumps(dropped - self._dropped)
        self._dropped = dropped
        self._channel.tell(_about_itself(DROPPED, body))


def _lines(headers: Mapping[str, str] | ResponseHeaders) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def _call(asked: Asked) -> Call:
    return Call(asked.method, asked.query, asked.headers, asked.body, asked.path)


def _about_itself(kind: int, body: bytes) -> Reply:
    return Reply(200, body, number=ABOUT_ITSELF, batch=kind)


def main() -> NoReturn:
    """Load the script, say so, and score until the front closes its end."""
    environ = os.environ
    channel = Channel(int(environ.pop("KEELWAY_CHANNEL_FD")), int(environ.pop("KEELWAY_BEGUN_FD")))
    _end_with_front(int(environ.pop("KEELWAY_FRONT_PID")))
    # The front is who ends: it lets requests finish first. A signal to the whole group must not break them off.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_it_to_the_front)
    faulthandler.enable()
    log.configure(is_worker=True)
    memory.reuse()
    settings = Settings.from_environ(environ)
    started = time.perf_counter()
    worker = _loaded(channel, settings)
    about = worker.about(round((time.perf_counter() - started) * 1000))
    gc.collect()
    gc.freeze()  # what was loaded stays: looking through it for garbage would hold up requests
    channel.tell(_about_itself(READY, orjson.dumps(about, default=str)))
    with contextlib.suppress(EOFError, OSError):
        worker.run()
    # A background thread the script left running would keep an ordinary exit waiting for ever.
    atexit._run_exitfuncs()
    _end(0)


def _leave_it_to_the_front(number: int, frame: Any) -> None:
    """Not SIG_IGN, which programs that the script starts would inherit."""


def _loaded(channel: Channel, settings: Settings) -> Worker:
    try:
        shims.install()
        prepare_process(settings)
        return Worker(channel, Scorer(load_entry(settings)), settings)
    except BaseException as error:  # noqa: BLE001 - SystemExit too: a script that quits in init() is not ready
        _end_unloaded(error)


def _end_unloaded(error: BaseException) -> NoReturn:
    """Say why the script could not be loaded, and what models it could have used, and end at once."""
    is_ours = isinstance(error, ScriptError)
    log.event("script failed", error=type(error).__name__, message=str(error))
    log.plain(f"The entry script cannot be served: {error}" if is_ours else log.user_traceback(error))
    log.plain("\n".join(["Model directory:", *model_path.tree(Path(os.environ.get("AZUREML_MODEL_DIR", ".")))]))
    _end(EXIT_SCRIPT_FAILED)


def _end(code: int) -> NoReturn:
    log.flush()
    os._exit(code)


def _end_with_front(pid: int) -> None:
    """Have the kernel end this process when the front is killed; elsewhere it ends when it reads next."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != pid:  # it was killed before this line
            _end(0)


if __name__ == "__main__":
    main()
