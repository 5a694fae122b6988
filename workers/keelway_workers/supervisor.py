"""The supervisor: the only process that starts and stops this node's replicas, also while the API is away."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

import psutil
import structlog
from pydantic import ValidationError

from keelway.client import Client
from keelway.contracts.services import NodeDesired, NodeObserved, NodeRegister
from keelway.errors import KeelwayError, NotFound
from keelway_workers.collected import CollectedShipping
from keelway_workers.environments import sweep_environments
from keelway_workers.keeper import Keeper
from keelway_workers.log_shipping import LogShipping
from keelway_workers.node import Node
from keelway_workers.node_dir import Locked, lock, write_atomically
from keelway_workers.routes import keep_routes
from keelway_workers.settings import WorkerSettings
from keelway_workers.subtree import end_abandoned
from keelway_workers.targets import TARGETS, Target

DESIRED_WAIT_S = 30.0
RECONCILE_S = 0.5
REPORT_EVERY_S = 5.0
SWEEP_EVERY_S = 5.0
PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
ANSWER_TIMEOUT_S = 20.0
STOP_ALL_GRACE_S = 5.0
LEAVE_WITHIN_S = 1.0
EXIT_LOCKED = 3

logger = structlog.get_logger(__name__)


def run_supervisor(settings: WorkerSettings) -> int:
    """Keep this node's replicas until a signal says to end; the exit code."""
    client = Client(settings.url, settings.worker_token.get_secret_value(), retry_for_s=0, timeout_s=ANSWER_TIMEOUT_S)
    node = Node(settings, client)
    supervisor = Supervisor(settings, node, client)
    signal.signal(signal.SIGTERM, lambda *_: supervisor.end(stop_replicas=False))
    signal.signal(signal.SIGINT, lambda *_: supervisor.end(stop_replicas=True))
    try:
        with lock(node.dir.root / "supervisor.lock", wait=False):
            supervisor.run()
    except Locked as locked:
        print(f"keelway_workers: process {locked.owner} is the supervisor of {node.dir.root}", file=sys.stderr)
        return EXIT_LOCKED
    return 0


class Supervisor:
    """Hears what should run here, keeps a `Keeper` for each replica, and says what does run."""

    def __init__(self, settings: WorkerSettings, node: Node, client: Client) -> None:
        self._settings = settings
        self._node = node
        self._client = client
        self._targets: dict[str, Target] = {name: make(node) for name, make in TARGETS.items()}
        self._shipping = LogShipping(client, node.name, node.dir)
        self._desired: NodeDesired | None = None
        self._is_remembered = True
        self._acted_on: int | None = None
        self._keepers: dict[str, Keeper] = {}
        self._one_picture = threading.Lock()  # a report must never lack a replica that is only being recalled
        self._changed = threading.Event()  # something here is different: say so
        self._woken = threading.Event()  # something else is wanted: act
        self._ending = threading.Event()
        self._collected = CollectedShipping(client, node.name, node.dir, self._ending)
        self._stops_replicas = False

    def end(self, *, stop_replicas: bool) -> None:
        """End soon; replicas go on running unless they are to be stopped as well."""
        self._stops_replicas = self._stops_replicas or stop_replicas
        self._ending.set()
        self._woken.set()

    def run(self) -> None:
        """Until `end`. Adopts what runs already."""
        self._tidy()
        self._desired = self._remembered()
        for work in self._threads():
            threading.Thread(target=work, name=getattr(work, "__name__", "work"), daemon=True).start()
        swept_at = time.monotonic()
        while not self._ending.is_set():
            self._reconcile()
            if time.monotonic() - swept_at > SWEEP_EVERY_S:
                self._sweep()
                swept_at = time.monotonic()
            self._woken.wait(RECONCILE_S)
            self._woken.clear()
        self._leave()

    def _threads(self) -> list[Callable[[], None]]:
        threads = [self._hear, self._say, self._ship, self._collected.run]
        if self._settings.gateway_routes_file:
            threads.append(self._keep_routes)
        return threads

    def _tidy(self) -> None:
        self._node.dir.sweep_tmp()
        sweep_environments(self._node.dir)
        end_abandoned()
        for target in self._targets.values():
            target.tidy()

    def _sweep(self) -> None:
        end_abandoned()
        for target in self._targets.values():
            target.sweep()

    def _reconcile(self) -> None:
        """Have a keeper for everything that is wanted or still here, and tell each what is wanted."""
        desired = self._desired
        if desired is None:  # never heard: nothing may be stopped yet
            return
        wanted = {spec.name: spec for spec in desired.replicas}
        with self._one_picture:
            gone = [name for name, keeper in self._keepers.items() if keeper.is_gone]
            for name in gone:
                del self._keepers[name]
            for name in {*wanted, *self._keepers, *self._node.dir.replica_names()}:
                if keeper := self._keeper(name):
                    keeper.want(wanted.get(name))
            has_news = bool(gone) or self._acted_on != desired.generation
            self._acted_on = desired.generation
        if has_news:
            self._changed.set()

    def _keeper(self, name: str) -> Keeper | None:
        if name in self._keepers:
            return self._keepers[name]
        try:
            keeper = Keeper(
                name,
                node=self._node.dir,
                targets=self._targets,
                on_change=self._on_change,
                last_words=self._last_words,
            )
        except ValueError as error:
            logger.error("a replica cannot be kept", problem=str(error))
            return None
        return self._keepers.setdefault(name, keeper)

    def _on_change(self) -> None:
        self._changed.set()
        self._woken.set()

    def _last_words(self, name: str) -> None:
        self._shipping.last_words(name)
        self._collected.last_files(name)

    def _leave(self) -> None:
        keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.leave()
        ends_at = time.monotonic() + LEAVE_WITHIN_S
        for keeper in keepers:
            keeper.join(timeout_s=max(0.0, ends_at - time.monotonic()))
        if self._stops_replicas and keepers:
            with ThreadPoolExecutor(max_workers=len(keepers)) as pool:
                list(pool.map(lambda keeper: keeper.stop(STOP_ALL_GRACE_S), keepers))
        for target in self._targets.values():
            target.close()

    def _hear(self) -> None:
        """Register, then follow what should run here. Starts over whenever the API is back."""
        registered: NodeRegister | None = None
        seen: int | None = None
        pause_s = PAUSE_S
        while not self._ending.is_set():
            try:
                description = self._description()  # an engine may have come or gone
                if registered != description:
                    self._client.nodes.register(self._node.name, description)
                    registered = description
                desired = self._client.nodes.desired(
                    self._node.name, seen=seen, wait_s=0 if seen is None else DESIRED_WAIT_S
                )
                pause_s = PAUSE_S
                self._take(desired)
                seen = desired.generation
            except (KeelwayError, ValidationError, OSError) as error:
                if isinstance(error, NotFound):
                    registered = None
                logger.warning("the API cannot be heard", problem=str(error))
                self._ending.wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _take(self, desired: NodeDesired) -> None:
        if desired != self._desired:
            self._desired, self._is_remembered = desired, False
            self._woken.set()
        if not self._is_remembered:  # a full disk must not keep the node from acting, and is tried again
            write_atomically(self._node.dir.desired, desired.model_dump_json(indent=2))
            self._is_remembered = True

    def _remembered(self) -> NodeDesired | None:
        try:
            return NodeDesired.model_validate_json(self._node.dir.desired.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            logger.error("desired.json cannot be read; waiting for the API", problem=str(error))
            return None

    def _description(self) -> NodeRegister:
        return NodeRegister(
            pythons=list(dict.fromkeys(python.version for python in self._node.pythons())),
            targets=sorted(name for name, target in self._targets.items() if target.is_available()),
            capacity={"cpu": os.cpu_count() or 1, "memory_bytes": psutil.virtual_memory().total},
            keelway_version=_version(),
        )

    def _say(self) -> None:
        """Report what runs here: on every change, and often enough to count as alive."""
        while not self._ending.is_set():
            self._changed.wait(REPORT_EVERY_S)
            self._changed.clear()
            observed = self._observed()
            if observed is None:
                continue
            try:
                self._client.nodes.observed(self._node.name, observed)
            except KeelwayError as error:
                logger.warning("the API cannot be told", problem=str(error))
                self._ending.wait(PAUSE_S)
                self._changed.set()

    def _observed(self) -> NodeObserved | None:
        """Everything that is here now; None before it is known what should be."""
        with self._one_picture:
            if self._acted_on is None:
                return None
            return NodeObserved(
                generation=self._acted_on,
                replicas=[keeper.observed() for keeper in self._keepers.values() if not keeper.is_gone],
            )

    def _ship(self) -> None:
        self._shipping.run(self._ending)

    def _keep_routes(self) -> None:
        file = self._settings.gateway_routes_file
        if file is None:
            return
        with Client(
            self._settings.url, self._settings.routes_token, retry_for_s=0, timeout_s=ANSWER_TIMEOUT_S
        ) as client:
            keep_routes(client, file, self._ending)


def _version() -> str:
    try:
        return version("keelway-workers")
    except PackageNotFoundError:
        return ""
