"""The worker process: hears ids from Celery and carries the operations out in its child processes."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import warnings
from functools import partial
from typing import Any

from celery import Celery, signals

from keelway.client import Client
from keelway_workers.app import RING, SHARED_QUEUE, create_app, node_queue
from keelway_workers.build import build
from keelway_workers.delete import delete
from keelway_workers.deploy import deploy
from keelway_workers.environments import sweep_environments
from keelway_workers.images.package import make_package
from keelway_workers.inspecting import inspect
from keelway_workers.launch import PR_SET_PDEATHSIG
from keelway_workers.node import Node
from keelway_workers.node_dir import NodeDir
from keelway_workers.operation import Handler, run_operation
from keelway_workers.settings import WorkerSettings
from keelway_workers.subtree import end_abandoned
from keelway_workers.watchdog import Watchdog

OPERATION_ID = re.compile(r"^[A-Za-z0-9_\-]{1,64}$")
ANSWER_TIMEOUT_S = 20.0


def run_worker(settings: WorkerSettings) -> int:
    """Work until a signal ends it; the exit code."""
    app = worker_app(settings)
    end_abandoned()
    _sweep(NodeDir(settings.node_dir))
    Watchdog(app, [SHARED_QUEUE, node_queue(settings.node_name)], settings.worker_concurrency).install()
    # Celery's answer to root is for those who accept pickle; this one accepts JSON only.
    warnings.filterwarnings("ignore", message=".*superuser privileges.*")
    app.worker_main(
        [
            "--quiet",  # no banner between the lines of JSON
            "worker",
            "--pool=prefork",
            f"--hostname=keelway@{settings.node_name}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=INFO",
        ]
    )
    return 0


def _sweep(node: NodeDir) -> None:
    """Remove what downloads and builds of killed workers left half-written."""
    node.make()
    node.sweep_tmp()
    sweep_environments(node)


def worker_app(settings: WorkerSettings) -> Celery:
    """The Celery application with its one task."""
    app = create_app(settings.broker_url, node=settings.node_name, concurrency=settings.worker_concurrency)
    hearer = Hearer(settings)

    @app.task(name=RING, ignore_result=True)
    def ring(operation_id: str) -> None:
        hearer.hear(operation_id)

    def get_ready(**_: Any) -> None:
        _die_with_parent()
        hearer.get_ready()

    signals.worker_process_init.connect(get_ready, weak=False)
    signals.setup_logging.connect(_leave_logging_alone)
    return app


class Hearer:
    """Carries out the operations that a process hears of, with one client: making one takes longer than a claim."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    def get_ready(self) -> Client:
        """The client of this process. Made after the fork, as connections cannot be shared over one."""
        if self._client is None:
            token = self._settings.worker_token.get_secret_value()
            self._client = Client(self._settings.url, token, retry_for_s=2.0, timeout_s=ANSWER_TIMEOUT_S)
        return self._client

    def hear(self, operation_id: object) -> None:
        """Carry out one operation, if it is there to be claimed."""
        if not isinstance(operation_id, str) or not OPERATION_ID.match(operation_id):
            return
        client = self.get_ready()
        work = handlers(self._settings, client)
        run_operation(operation_id, settings=self._settings, client=client, handlers=work)


def handlers(settings: WorkerSettings, client: Client) -> dict[str, Handler]:
    """What is done for each kind of operation."""
    node = Node(settings, client)
    return {
        "build": partial(build, node=node, settings=settings),
        "deploy": partial(deploy, node=node, settings=settings),
        "delete": delete,
        "inspect": inspect,
        "package": partial(make_package, node=node, settings=settings),
    }


def _die_with_parent() -> None:
    # A worker that was killed must not leave a child that works on: its lease would be renewed by nobody's process.
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _leave_logging_alone(**_: Any) -> None:
    """Connected so that Celery does not replace our own set-up."""
