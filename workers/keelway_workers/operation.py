"""One attempt at an operation: claim it, keep the claim alive, do the work, say how it ended."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from keelway.client import Client
from keelway.contracts.operations import Claim, OperationError, OperationState, Report
from keelway.errors import (
    InternalError,
    KeelwayError,
    NotFound,
    OperationNotClaimable,
    ProblemError,
    StaleAttempt,
    Unreachable,
)
from keelway_workers.failures import WorkFailed, WorkStopped, disk_full
from keelway_workers.reporter import Reporter
from keelway_workers.settings import WorkerSettings
from keelway_workers.subtree import Subtree

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
REPORT_GRACE_S = 30.0  # after the deadline; the API ends the operation by itself then

Answer = TypeVar("Answer")
Handler = Callable[["Attempt"], dict[str, Any]]
logger = structlog.get_logger(__name__)


class Attempt:
    """The right to work on one operation, and the means: reports, commands, calls that outlive the API's absence.

    It ends when the API says so (cancelled, or another attempt began) or at the operation's deadline. While the API is
    away it goes on: its epoch is still the highest.
    """

    def __init__(self, claim: Claim, client: Client) -> None:
        self.claim = claim
        self.client = client
        self.subtree = Subtree()
        self.reporter = Reporter(claim.epoch, self._report)
        self._ends_as: OperationState | None = None
        self._is_stale = False
        self._stopped = threading.Event()
        self._done = threading.Event()
        self._server_ahead_s = 0.0
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def id(self) -> str:
        """The operation's id."""
        return self.claim.operation.id

    @property
    def epoch(self) -> int:
        """What fences this attempt off from earlier ones."""
        return self.claim.epoch

    @property
    def seconds_left(self) -> float:
        """Until the operation's deadline, by the API's clock as its heartbeats showed it."""
        now = datetime.now(UTC).timestamp() + self._server_ahead_s
        return self.claim.operation.deadline_at.timestamp() - now

    def step(self, name: str) -> None:
        """A new step begins; WorkStopped when there is no point any more."""
        self.check()
        self.reporter.step(name)

    def check(self) -> None:
        """WorkStopped when the attempt is over."""
        if self._stopped.is_set() or self.seconds_left <= 0:
            raise WorkStopped

    def pause(self, seconds: float) -> None:
        """Sleep, but no longer than the attempt."""
        self._stopped.wait(seconds)
        self.check()

    def patiently(self, call: Callable[[], Answer]) -> Answer:
        """The answer of an API call, tried again while the API, or something it needs, is away."""
        pause_s = FIRST_PAUSE_S
        while True:
            self.check()
            try:
                return call()
            except StaleAttempt:
                self._stop(stale=True)
                raise WorkStopped from None
            except (Unreachable, ProblemError) as error:
                if not is_passing(error):
                    raise
            self.pause(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def run(self, handler: Handler) -> None:
        """Do the work and report how it ended, unless that is no longer ours to say."""
        self._heart.start()
        self.reporter.start()
        try:
            state, result, error = self._work(handler)
            self._finish(state, result, error)
        finally:
            self._done.set()
            self._stopped.set()
            self.reporter.close()
            self.subtree.kill()
            self._heart.join(timeout=1)

    def _work(self, handler: Handler) -> tuple[OperationState, dict[str, Any] | None, OperationError | None]:
        try:
            return OperationState.SUCCEEDED, handler(self), None
        except WorkStopped:
            return self._ends_as or OperationState.FAILED, None, self._why_stopped()
        except Exception as error:  # noqa: BLE001 - the edge: a bug ends this operation, not the worker
            return OperationState.FAILED, None, error_of(error) or _our_mistake(self.id)

    def _why_stopped(self) -> OperationError | None:
        if self._ends_as is OperationState.CANCELLED:
            return None
        return OperationError(code="deadline-passed", message="the operation took longer than it may")

    def _finish(self, state: OperationState, result: dict[str, Any] | None, error: OperationError | None) -> None:
        self.subtree.kill()
        if self._is_stale:
            return
        try:
            self.reporter.finish(state, result=result, error=error)
        except WorkStopped:
            logger.info("the attempt is no longer ours to end", operation=self.id, epoch=self.epoch)
        except ProblemError as refused:
            logger.error("the final report was refused", operation=self.id, problem=str(refused))

    def _report(self, report: Report) -> None:
        """Deliver a report however long it takes; WorkStopped when it is nobody's any more."""
        pause_s = FIRST_PAUSE_S
        while not self._is_stale and self.seconds_left > -REPORT_GRACE_S:
            try:
                answer = self.client.operations.report(self.id, report)
            except StaleAttempt:
                self._stop(stale=True)
                break
            except (Unreachable, ProblemError) as error:
                if not (is_passing(error) or isinstance(error, InternalError)):
                    raise
            else:
                self._heed(answer.state)
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        raise WorkStopped

    def _beat(self) -> None:
        while not self._done.wait(min(self.claim.heartbeat_s, max(self.seconds_left, 0.05))):
            if self.seconds_left <= 0:
                self._stop()
                return
            if self._is_stale:
                return
            self._beat_once()

    def _beat_once(self) -> None:
        try:
            answer = self.client.operations.heartbeat(self.id, self.epoch)
        except (StaleAttempt, NotFound):
            self._stop(stale=True)
        except KeelwayError as error:
            logger.warning("a heartbeat got no answer", operation=self.id, problem=str(error))
        else:
            ahead = answer.lease_until.timestamp() - self.claim.lease_s - datetime.now(UTC).timestamp()
            self._server_ahead_s = ahead
            self._heed(answer.state)

    def _heed(self, state: OperationState) -> None:
        if state is OperationState.CANCELLING:
            self._stop(ends_as=OperationState.CANCELLED if self.seconds_left > 0 else None)

    def _stop(self, *, ends_as: OperationState | None = None, stale: bool = False) -> None:
        if self._done.is_set():
            return
        self._is_stale = self._is_stale or stale
        self._ends_as = self._ends_as or ends_as
        self._stopped.set()
        self.subtree.kill()


def is_passing(error: Exception) -> bool:
    """Whether trying again later may help: nobody answered, or the API said that something is away."""
    if isinstance(error, ProblemError):
        return error.status in {429, 502, 503, 504}
    return isinstance(error, Unreachable)


def owner() -> str:
    """Which process works on an operation, for people who look for it, and which try of it this is.

    The API gives a claim again to the owner it gave it to: no two attempts may have one name.
    """
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def run_operation(operation_id: str, *, settings: WorkerSettings, client: Client, handlers: dict[str, Handler]) -> None:
    """Claim an operation and run it to its end; quietly nothing when it is not to be claimed."""
    try:
        claim = client.operations.claim(operation_id, owner=owner(), node=settings.node_name)
    except (OperationNotClaimable, NotFound):
        return
    except (Unreachable, ProblemError) as error:
        # The API's clock rings again for what nobody claimed.
        logger.warning("could not claim", operation=operation_id, problem=str(error))
        return
    logger.info("claimed", operation=operation_id, kind=claim.operation.kind, epoch=claim.epoch)
    Attempt(claim, client).run(handlers.get(claim.operation.kind, _unknown_kind))


def _unknown_kind(attempt: Attempt) -> dict[str, Any]:
    raise WorkFailed("kind-not-known", f"this worker knows no work of kind {attempt.claim.operation.kind}")


def error_of(error: Exception) -> OperationError | None:
    """What an operation's owner is told about an error that was foreseen; None for our own mistakes."""
    if isinstance(error, OSError):
        error = disk_full(error) or error
    if isinstance(error, WorkFailed):
        return OperationError(code=error.code, message=error.message, details=error.details, log_tail=error.log_tail)
    if isinstance(error, ProblemError):
        return OperationError(code=error.type, message=str(error), details=error.fields)
    return None


def _our_mistake(operation_id: str) -> OperationError:
    incident = uuid.uuid4().hex[:12]
    logger.exception("internal error", operation=operation_id, incident=incident)
    return OperationError(
        code="internal-error",
        message=f"this is our mistake; the worker's log has the traceback under {incident}",
        details={"incident": incident},
    )
