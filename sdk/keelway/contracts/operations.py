"""Operations: the one mechanism for long work, and what a worker says about it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from keelway.contracts.base import Answer, Request


class OperationState(StrEnum):
    """queued -> running -> succeeded | failed | cancelled, with cancelling on the way."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Nothing changes any more after one of these."""
        return self in TERMINAL


TERMINAL = frozenset({OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED})


class OperationKind(StrEnum):
    """What kind of long work it is."""

    BUILD = "build"
    DEPLOY = "deploy"
    DELETE = "delete"
    INSPECT = "inspect"
    PACKAGE = "package"


class OperationError(Answer):
    """Why an operation did not succeed. `code` is a stable id, `details` its own fields.

    `replica-failed` has `exit_code`, `replica` and, when the log holds one, `traceback`; a command that failed has
    `exit_code`. `log_tail` are the last lines that were written.
    """

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
    log_tail: list[str] = Field(default_factory=list)


class Step(Answer):
    """One step of an operation as people see it: its name and how long it took so far."""

    name: str
    started_at: datetime
    ended_at: datetime | None = None


class Operation(Answer):
    """Long-running work: what it is, how far it is, how it ended."""

    id: str
    workspace: str
    kind: OperationKind
    subject: str = Field(description="what it works on, e.g. services/ridge-svc")
    state: OperationState
    epoch: int
    attempts: int
    max_attempts: int
    steps: list[Step] = Field(default_factory=list)
    result: dict[str, Any] | None = None
    error: OperationError | None = None
    created_at: datetime
    created_by: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    deadline_at: datetime
    etag: str = Field(default="", description="changes with anything above; `?seen=` it to wait for the next change")


class ClaimRequest(Request):
    """A worker asks to run an operation: `owner` names the process, `node` the host it works on."""

    owner: Annotated[str, Field(min_length=1, max_length=200)]
    node: Annotated[str, Field(min_length=1, max_length=200)]


class Claim(Answer):
    """The right to work on an operation while the lease is renewed; `epoch` goes with every report."""

    operation: Operation
    epoch: int
    lease_s: float
    heartbeat_s: float
    spec: dict[str, Any] = Field(description="a DeploySpec, BuildSpec, DeleteSpec, InspectSpec or PackageSpec, by kind")


class HeartbeatRequest(Request):
    """I am still working on it."""

    epoch: int


class Heartbeat(Answer):
    """`cancelling` here means: stop and report `cancelled`."""

    state: OperationState
    lease_until: datetime


class Report(Request):
    """Progress or the end of an attempt. Numbered from 1 within an epoch; one that arrives twice does nothing."""

    epoch: int
    seq: Annotated[int, Field(ge=1)]
    state: OperationState = OperationState.RUNNING
    step: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="a new step begins, the old one ends"
    )
    log: Annotated[str, Field(max_length=1_048_576)] | None = Field(
        default=None, description="text to append to the log"
    )
    result: dict[str, Any] | None = None
    error: OperationError | None = None
