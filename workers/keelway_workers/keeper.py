"""Keeps one replica as it should be: adopts or starts it, restarts what died, stops it when it is not wanted."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from keelway.contracts.services import ObservedReplica, ReplicaSpec, ReplicaState
from keelway.errors import KeelwayError
from keelway_workers.backoff import Backoff
from keelway_workers.endings import how_it_ended
from keelway_workers.failures import WorkFailed, WorkStopped
from keelway_workers.node_dir import REMOVED, NodeDir
from keelway_workers.probe import is_ready
from keelway_workers.record import Record, digest_of, load_record
from keelway_workers.replica_log import telling_tail
from keelway_workers.subtree import Subtree
from keelway_workers.targets.base import Instance, Target

LOADING_TICK_S = 0.05
TICK_S = 0.25
PROBE_EVERY_S = 1.0
LOADING_PROBE_TIMEOUT_S = 1.0
READY_PROBE_TIMEOUT_S = 5.0  # a script that holds the interpreter for a while is busy, not ill
UNREADY_AFTER = 3
STOP_GRACE_S = 15.0
TAIL_LINES = 50
TAIL_AT_MOST = 200

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A spec with its digest, which takes long to compute when a model has many files."""

    spec: ReplicaSpec
    digest: str


class Keeper:
    """One replica and the thread that looks after it. It is not wanted any more when its spec is None."""

    def __init__(
        self,
        name: str,
        *,
        node: NodeDir,
        targets: Mapping[str, Target],
        on_change: Callable[[], None],
        last_words: Callable[[str], None],
    ) -> None:
        self.name = name
        self.is_gone = False
        self._node = node
        self._folder = node.replica(name)
        self._targets = targets
        self._on_change = on_change
        self._last_words = last_words
        self._wanted: Wanted | None = None
        self._record = load_record(self._folder, name)
        self._state = ReplicaState.PENDING
        self._reason = self._record.reason
        self._instance: Instance | None = None
        self._last_url: str | None = None
        self._log_tail: list[str] = []
        self._backoff = Backoff()
        self._start_at = 0.0
        self._alive_since: float | None = None
        self._failed_probes = 0
        self._probed_at = 0.0
        self._subtree = Subtree()
        self._wake = threading.Event()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"keeper {name}", daemon=True)
        self._recall()

    def want(self, spec: ReplicaSpec | None) -> None:
        """Say what should be; may be said as often as one likes."""
        known = self._wanted.spec if self._wanted else None
        if self._thread.is_alive() and (spec is known or self._wanted is None):
            return  # no news, or already on its way out: a new keeper follows when this one is gone
        self._wanted = Wanted(spec, digest_of(spec)) if spec else None
        if not self._thread.is_alive() and not self.is_gone:
            self._thread.start()
        elif spec is None:
            self._subtree.kill()
        self._wake.set()

    def leave(self) -> None:
        """Look after it no longer; it goes on running."""
        self._leaving.set()
        self._subtree.kill()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait until its thread has ended."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def stop(self, grace_s: float) -> None:
        """Stop its process; for who has told it to leave before."""
        self._target.stop(self.name, grace_s)

    def observed(self) -> ObservedReplica:
        """The replica as it is now."""
        instance = self._instance
        return ObservedReplica(
            name=self.name,
            state=self._state,
            reason=self._reason,
            url=instance.url if instance else self._last_url,
            pid=instance.pid if instance and instance.is_alive else None,
            restarts=self._record.restarts,
            exit_code=self._record.exit_code,
            log_tail=self._log_tail,
            started_at=self._record.started_at,
        )

    def _recall(self) -> None:
        """Begin with the state that an earlier supervisor saw: a replica that serves is never said to be away."""
        if self._record.failed:
            self._state = ReplicaState.FAILED
            self._log_tail = self._tail()
            return
        instance = self._target.inspect(self.name)
        if instance and self._record.was_ready:
            self._last_url = instance.url
        if instance and instance.is_alive:
            self._instance, self._alive_since = instance, time.monotonic()
            self._state = ReplicaState.READY if self._record.is_ready else ReplicaState.STARTING

    def _tail(self) -> list[str]:
        return telling_tail(self._folder, TAIL_LINES, at_most=TAIL_AT_MOST)

    @property
    def _target(self) -> Target:
        return self._targets[self._record.target]

    def _run(self) -> None:
        while not self._leaving.is_set() and not self.is_gone:
            try:
                pause_s = self._tick()
            except WorkStopped:
                pause_s = 0.0
            except Exception as error:
                logger.exception("a replica could not be looked after", replica=self.name)
                pause_s = self._try_later(f"the node could not look after it: {error}")
            self._wake.wait(pause_s)
            self._wake.clear()

    def _tick(self) -> float:
        """Do what is next; the seconds until it should be looked at again."""
        wanted = self._wanted
        if wanted is None:
            self._remove()
            return 0.0
        self._heed(wanted)
        if self._record.failed:
            return TICK_S
        instance = self._target.inspect(self.name)
        if instance and instance.is_alive:
            return self._look_after(instance)
        if instance and self._alive_since is not None:
            return self._bury(instance)
        if time.monotonic() < self._start_at:
            return self._start_at - time.monotonic()
        return self._start(wanted.spec)

    def _heed(self, wanted: Wanted) -> None:
        """Take note of what is wanted now: another spec is another replica, a new generation a new chance."""
        record = self._record
        spec = wanted.spec
        if record.spec_digest != wanted.digest:
            if record.spec_digest:
                self._show(ReplicaState.STOPPING)
                self._target.stop(self.name, STOP_GRACE_S)
            self._forget_life()
            self._last_url = None
            self._record = Record(
                name=self.name,
                spec_digest=wanted.digest,
                generation=spec.generation,
                target=spec.target if spec.target in self._targets else record.target,
                port=record.port,
            )
            self._record.save(self._folder)
        elif record.generation != spec.generation:
            record.generation = spec.generation
            if record.failed:
                record.failed, record.reason = False, ""
                self._forget_life()
            record.save(self._folder)

    def _forget_life(self) -> None:
        self._instance = self._alive_since = None
        self._backoff, self._start_at, self._log_tail = Backoff(), 0.0, []

    def _start(self, wanted: ReplicaSpec) -> float:
        self._show(ReplicaState.PENDING, self._reason)
        try:
            if wanted.target not in self._targets:
                raise WorkFailed("target-not-known", f"this node cannot run replicas on target {wanted.target!r}")
            self._subtree = Subtree()
            if self._wanted is None or self._leaving.is_set():
                return 0.0
            self._target.prepare(wanted, self._subtree)
            self._show(ReplicaState.STARTING)
            self._instance = self._target.start(wanted, self._subtree)
        except WorkFailed as failure:
            return self._cannot_start(failure)
        except KeelwayError as error:
            return self._try_later(f"waits for its files: {error}")
        self._record = load_record(self._folder, self.name)
        self._alive_since = time.monotonic()
        self._show(ReplicaState.STARTING)
        return LOADING_TICK_S

    def _cannot_start(self, failure: WorkFailed) -> float:
        if self._record.was_ready:
            return self._try_later(failure.message)
        return self._fail(f"cannot start: {failure.message}", None, failure.log_tail[-TAIL_AT_MOST:])

    def _try_later(self, reason: str) -> float:
        pause_s = self._backoff.pause_s(lived_s=0)
        self._start_at = time.monotonic() + pause_s
        self._show(ReplicaState.CRASHED if self._record.was_ready else ReplicaState.PENDING, reason)
        return pause_s

    def _look_after(self, instance: Instance) -> float:
        self._instance = instance
        self._last_url = instance.url  # also told while it is being started again: it will be there once more
        if self._state not in {ReplicaState.READY, ReplicaState.UNREADY}:
            return self._await_ready(instance)
        if time.monotonic() - self._probed_at >= PROBE_EVERY_S:
            self._judge(is_ready(instance.url, READY_PROBE_TIMEOUT_S))
            self._probed_at = time.monotonic()
        return TICK_S

    def _await_ready(self, instance: Instance) -> float:
        if not is_ready(instance.url, LOADING_PROBE_TIMEOUT_S):
            return LOADING_TICK_S
        self._record.is_ready = self._record.was_ready = True
        self._record.exit_code = None
        self._record.save(self._folder)
        self._failed_probes = 0
        self._log_tail = []
        self._show(ReplicaState.READY)
        return TICK_S

    def _judge(self, answered: bool) -> None:
        self._failed_probes = 0 if answered else self._failed_probes + 1
        if answered:
            self._show(ReplicaState.READY)
        elif self._failed_probes >= UNREADY_AFTER:
            self._show(ReplicaState.UNREADY, f"did not answer {self._failed_probes} probes")

    def _bury(self, dead: Instance) -> float:
        """A replica ended under our eyes: one that was never ready has failed, any other is started again."""
        lived_s = time.monotonic() - (self._alive_since or time.monotonic())
        self._alive_since = self._instance = None
        self._target.stop(self.name, 0)  # what it started may live on
        tail = self._tail()
        if not self._record.was_ready:
            return self._fail(dead.ending or how_it_ended(dead.exit_code), dead.exit_code, tail)
        self._record.pid = self._record.born = None
        self._record.restarts += 1
        self._record.exit_code = dead.exit_code
        self._record.save(self._folder)
        self._log_tail = tail
        pause_s = self._backoff.pause_s(lived_s=lived_s)
        self._start_at = time.monotonic() + pause_s
        self._show(ReplicaState.CRASHED, dead.ending or how_it_ended(dead.exit_code))
        return pause_s

    def _fail(self, reason: str, exit_code: int | None, log_tail: list[str]) -> float:
        self._record.failed, self._record.reason, self._record.exit_code = True, reason, exit_code
        self._record.pid = self._record.born = None
        self._record.save(self._folder)
        self._log_tail = log_tail
        self._show(ReplicaState.FAILED, reason)
        return TICK_S

    def _remove(self) -> None:
        self._show(ReplicaState.STOPPING)
        self._target.stop(self.name, STOP_GRACE_S)
        self._last_words(self.name)
        grave = self._node.tmp / f"{REMOVED}{uuid.uuid4().hex}"
        if self._folder.exists():
            self._folder.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
        self.is_gone = True
        self._on_change()

    def _show(self, state: ReplicaState, reason: str = "") -> None:
        if (state, reason) == (self._state, self._reason):
            return
        logger.info("replica", replica=self.name, state=state, reason=reason)
        self._state, self._reason = state, reason
        self._on_change()
