"""`keelway up`: everything on this host, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keelway_standalone import addresses as ports
from keelway_standalone.addresses import LOOPBACK, Addresses
from keelway_standalone.errors import PortTaken, Refused, StartFailed
from keelway_standalone.files import owner_dir
from keelway_standalone.layout import Layout
from keelway_standalone.lock import locked
from keelway_standalone.progress import Progress
from keelway_standalone.secrets import Secrets
from keelway_standalone.stack import Stack
from keelway_standalone.strays import kill_and_wait, leftovers
from keelway_standalone.surroundings import is_declared

PORT_TRIES = 3
DECLARATIONS = ("KEELWAY_BEHIND_PROXY", "KEELWAY_INSECURE")


@dataclass(frozen=True)
class Run:
    """One run of `up`: what it starts, and whom it tells."""

    layout: Layout
    addresses: Addresses
    secrets: Secrets
    progress: Progress
    services_only: bool


def up(data_dir: Path | None, *, host: str, port: int, gateway_port: int, services_only: bool = False) -> int:
    """Start everything, stay until a signal, stop everything. Gives the exit code.

    `services_only` starts Postgres, Redis, S3 and the gateway without Keelway's own processes.
    """
    os.umask(0o077)
    progress = Progress()
    layout = Layout.at(data_dir)
    try:
        _refuse_open_network(host)
        if not layout.root.exists():
            owner_dir(layout.root)
        with locked(layout.lock):
            layout.make()
            kill_and_wait(leftovers(layout))
            secrets = Secrets(layout.secrets)
            secrets.make()
            tries_left = PORT_TRIES
            while True:
                addresses = ports.choose(layout.addresses, host=host, port=port, gateway_port=gateway_port)
                run = Run(layout, addresses, secrets, progress, services_only)
                failure = asyncio.run(_until_stopped(run))
                tries_left -= 1
                if not isinstance(failure, PortTaken) or not tries_left:
                    return _told(failure, run)
                # Whoever took it did so after we looked. A port that was asked for is not given up: choose refuses.
                progress.say(f"{failure.name}: a port that was free is another's now; starting again with others")
    except (Refused, OSError) as error:
        progress.say(f"keelway up: {error}")
        return 1


def _refuse_open_network(host: str) -> None:
    if host not in LOOPBACK and not any(map(is_declared, DECLARATIONS)):
        raise Refused(
            f"refusing to listen on {host} without TLS: set KEELWAY_BEHIND_PROXY=true when a proxy terminates TLS, "
            "or KEELWAY_INSECURE=true to accept that tokens cross the network in the clear"
        )


async def _until_stopped(run: Run) -> BaseException | None:
    """Start everything, and stop it when that is asked for or something fails; why it ended."""
    stack = Stack(run.layout, run.addresses, run.secrets, run.progress.say)
    stopping = _on_signals(stack.kill)
    serving = asyncio.create_task(_serve(stack, run))
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        run.progress.say("stopping")
        serving.cancel()
    failure = (await asyncio.gather(serving, return_exceptions=True))[0]
    await stack.stop()
    asked.cancel()
    return failure


async def _serve(stack: Stack, run: Run) -> None:
    say = run.progress.say
    say(f"starting in {run.layout.root}")
    await stack.start(services_only=run.services_only)
    if not run.services_only:
        _become_current(run)
    say("ready")
    if not run.services_only:
        say(f"API      {run.addresses.url}")
    say(f"gateway  {run.addresses.gateway_url}")
    if not run.services_only:
        say(f"in another terminal: {_command()} whoami")
    say("Ctrl-C stops")
    await stack.watch()


def _command() -> str:
    """The command line beside this Python, by its whole path: it need not be on PATH."""
    beside = Path(sys.executable).with_name("keelway")
    return str(beside) if beside.exists() else "keelway"


def _become_current(run: Run) -> None:
    from keelway import context  # noqa: PLC0415 (the SDK is needed here only)
    from keelway.errors import KeelwayError  # noqa: PLC0415

    try:
        context.save("local", run.addresses.url, run.secrets.read("admin_token"), workspace="default")
    except (OSError, KeelwayError) as error:
        run.progress.say(f"the command line's credentials could not be written: {error}")


def _on_signals(kill: Callable[[], None]) -> asyncio.Event:
    """An event that the first Ctrl-C or SIGTERM sets; another one calls `kill`."""
    stopping = asyncio.Event()

    def heard() -> None:
        if stopping.is_set():
            kill()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heard)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: go on without the terminal
        loop.add_signal_handler(signal.SIGHUP, heard)
    return stopping


def _told(failure: BaseException | None, run: Run) -> int:
    """Say why it ended, if not because it was asked to; the exit code."""
    if failure is None or isinstance(failure, asyncio.CancelledError):
        run.progress.say("stopped")
        return 0
    if not isinstance(failure, StartFailed | Refused | OSError):
        raise failure
    if isinstance(failure, StartFailed):
        for line in failure.log_tail:
            print(f"    {failure.name} | {line}")
    run.progress.say(f"keelway up failed: {failure} (logs: {run.layout.logs})")
    return 1
