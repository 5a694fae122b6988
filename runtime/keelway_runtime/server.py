"""The process around the application: socket, signals, loading, ending."""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from keelway_runtime import log, model_path, shims
from keelway_runtime.app import Application
from keelway_runtime.scoring import Scorer
from keelway_runtime.script import ScriptError, entry_path, load, prepare_process
from keelway_runtime.settings import Settings, SettingsError
from keelway_runtime.thread import ScoringThread

EXIT_SCRIPT_FAILED = 3
BACKLOG = 2048
KEEP_ALIVE_S = 120  # longer than a gateway keeps idle connections (Traefik: 90 s), so that never both sides act at once


def serve(settings: Settings) -> NoReturn:
    """Serve until SIGTERM, then end the process: 0 after a stop, 3 when the entry script cannot be loaded.

    Raises SettingsError before anything is loaded when the socket is not to be had.
    """
    listener = _listener(settings)
    log.configure()
    faulthandler.enable()
    shims.install()
    loop = _new_event_loop()
    loop.run_until_complete(_serve(settings, listener))
    log.event("stopped")
    # A background thread the script left running would keep an ordinary exit waiting for ever.
    atexit._run_exitfuncs()
    _end(0)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    thread = ScoringThread()
    application = Application(settings, thread)
    server = _Server(application, settings)
    loading = asyncio.ensure_future(_load(application, settings, thread))
    host, port = listener.getsockname()[:2]
    log.event("listening", host=host, port=port, service=settings.service_name, workspace=settings.workspace)
    await server.serve(sockets=[listener])
    loading.cancel()


async def _load(application: Application, settings: Settings, thread: ScoringThread) -> None:
    started = time.perf_counter()
    application.scorer = await thread.call(_scorer_or_end, settings)
    ms = round((time.perf_counter() - started) * 1000)
    log.event("ready", script=str(entry_path(settings)), revision=settings.revision, ms=ms)


def _scorer_or_end(settings: Settings) -> Scorer:
    try:
        prepare_process(settings)
        return Scorer(load(entry_path(settings)))
    except BaseException as error:  # noqa: BLE001 - SystemExit too: a script that quits in init() is not ready
        _end_unloaded(error)


def _end_unloaded(error: BaseException) -> NoReturn:
    """Say why the script could not be loaded, and what models it could have used, and end at once."""
    is_ours = isinstance(error, ScriptError)
    log.event("script failed", error=type(error).__name__, message=str(error))
    print(f"The entry script cannot be served: {error}" if is_ours else log.user_traceback(error))
    print("Model directory:", *model_path.tree(Path(os.environ.get("AZUREML_MODEL_DIR", "."))), sep="\n")
    _end(EXIT_SCRIPT_FAILED)


def _end(code: int) -> NoReturn:
    log.flush()
    os._exit(code)


class _Server(uvicorn.Server):
    """Uvicorn, which ends normally after the first signal and at once after the second."""

    def __init__(self, application: Application, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                application,  # type: ignore[arg-type]
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.grace_s,
            )
        )
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. Uvicorn's own would raise the signal again afterwards: no exit 0."""
        if self.should_exit:
            _end(128 + sig)
        self._application.is_stopping = True
        self.should_exit = True
        log.event("stopping", signal=signal.Signals(sig).name)


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
    # Else a child process of the script would hold the port after this process has ended.
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
