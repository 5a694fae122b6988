"""`python -m keelway_workers worker` and `python -m keelway_workers supervisor`."""

from __future__ import annotations

import os
import sys

from keelway_workers.crash import end_when_a_thread_fails
from keelway_workers.log import configure_logs
from keelway_workers.settings import SettingsInvalid, WorkerSettings, load_settings

USAGE = "usage: python -m keelway_workers worker|supervisor"
EXIT_USAGE = 2


def main(arguments: list[str]) -> int:
    """Run one of the two processes; the exit code."""
    if arguments not in (["worker"], ["supervisor"]):
        print(USAGE, file=sys.stderr)
        return EXIT_USAGE
    try:
        settings = load_settings()
        if arguments == ["worker"]:
            settings.broker_url  # noqa: B018 - says now that it is missing
    except SettingsInvalid as invalid:
        print(f"keelway_workers: {invalid}", file=sys.stderr)
        return EXIT_USAGE
    configure_logs()
    end_when_a_thread_fails()
    return _worker(settings) if arguments == ["worker"] else _supervisor(settings)


def _worker(settings: WorkerSettings) -> int:
    # Read by Celery at import: SIGTERM ends the worker soon instead of after its longest operation, whose lease lapses
    # and which another attempt then takes up.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    from keelway_workers.worker import run_worker  # noqa: PLC0415

    return run_worker(settings)


def _supervisor(settings: WorkerSettings) -> int:
    from keelway_workers.supervisor import run_supervisor  # noqa: PLC0415 - without Celery

    return run_supervisor(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
