"""Operations: for people who wait for them, and for workers who carry them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from keelway.contracts.images import KnownImage, SealFiles, StoreFiles
from keelway.contracts.operations import Claim, ClaimRequest, Heartbeat, HeartbeatRequest, Operation, Report
from keelway.contracts.safety import Inspections
from keelway.contracts.services import Activate, PlaceReplicas, ReplicaList
from keelway.contracts.snapshots import Snapshot, SnapshotState, SnapshotUpload
from keelway.errors import WaitTimeout
from keelway.resources.base import SLOW_ANSWER_S, Resource, dumped, segment
from keelway.streams import follow_text
from keelway.uploads import Progress, manifest, send_missing

_POLL_S = 30.0
_PATH = "/v1/operations"
OnChange = Callable[[Operation], None]


class Operations(Resource):
    """`/v1/operations`."""

    def get(self, id: str, wait_s: float = 0, seen: str | None = None) -> Operation:
        """The operation now, or once its etag differs from `seen` or it has ended, at the latest after `wait_s`."""
        return self._poll(Operation, _path(id), wait_s=wait_s, seen=seen)

    def list(
        self, *, workspace: str | None = None, state: str | Sequence[str] | None = None, subject: str | None = None
    ) -> Iterator[Operation]:
        """The operations you may see, newest first: of a workspace, in one of some states, about one subject."""
        return self._pages(Operation, _PATH, {"workspace": workspace, "state": state, "subject": subject})

    def wait(self, id: str, timeout_s: float | None = None, on_change: OnChange | None = None) -> Operation:
        """The operation once it has ended, well or not; `on_change` gets every new state of it.

        Raises WaitTimeout after `timeout_s`. See `keelway.errors.raise_unless_succeeded` for its outcome.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen = None
        wait_s = 0.0  # the first answer is for the caller to see at once
        while True:
            operation = self.get(id, wait_s, seen.etag if seen else None)
            if operation != seen and on_change:
                on_change(operation)
            if operation.state.is_terminal:
                return operation
            seen, wait_s = operation, _POLL_S
            if deadline is not None:
                wait_s = min(_POLL_S, deadline - time.monotonic())
                if wait_s <= 0:
                    raise WaitTimeout(f"operation {id} is still {operation.state} after {timeout_s:g} s")

    def logs(self, id: str, follow: bool = False) -> Iterator[str]:
        """The log's text in pieces; with `follow`, until the operation ends. Goes on after a cut connection."""
        return follow_text(self._client, f"{_path(id)}/logs", {"follow": "true" if follow else None})

    def cancel(self, id: str) -> Operation:
        """Ask for the end of an operation. It may still succeed if it is about to."""
        return self._send(Operation, "POST", f"{_path(id)}/cancel")

    def claim(self, id: str, *, owner: str, node: str) -> Claim:
        """The right to work on it. OperationNotClaimable: somebody else does, or it ended."""
        return self._send(Claim, "POST", f"{_path(id)}/claim", ClaimRequest(owner=owner, node=node))

    def heartbeat(self, id: str, epoch: int) -> Heartbeat:
        """Renew the lease. StaleAttempt: it is lost, stop."""
        return self._send(Heartbeat, "POST", f"{_path(id)}/heartbeat", HeartbeatRequest(epoch=epoch))

    def report(self, id: str, report: Report) -> Operation:
        """Progress or the end. May be sent twice. StaleAttempt: stop."""
        return self._send(Operation, "POST", f"{_path(id)}/reports", report)

    def place(self, id: str, place: PlaceReplicas) -> ReplicaList:
        """Have the operation's replicas run on a node. May be asked for twice."""
        return self._send(ReplicaList, "POST", f"{_path(id)}/replicas", place)

    def replicas(self, id: str, seen: str | None = None, wait_s: float = 0) -> ReplicaList:
        """The operation's replicas, once they differ from `seen` or after `wait_s`."""
        return self._poll(ReplicaList, f"{_path(id)}/replicas", wait_s=wait_s, seen=seen)

    def activate(self, id: str, epoch: int) -> None:
        """Send traffic to what the operation made."""
        self._client.request("POST", f"{_path(id)}/activate", json=dumped(Activate(epoch=epoch)))

    def inspected(self, id: str, found: Inspections) -> None:
        """For workers: what some blobs of an `inspect` were found to be."""
        self._client.request("POST", f"{_path(id)}/inspections", json=dumped(found))

    def image(self, id: str, identity: str) -> KnownImage:
        """For workers: the stored image of an identity, in the operation's workspace. NotFound when there is none."""
        return self._get(KnownImage, f"{_path(id)}/images/{segment(identity)}")

    def store_files(self, id: str, epoch: int, files: dict[str, Path], *, progress: Progress | None = None) -> str:
        """For workers: keep what the operation made, by the paths it gets; the digest of its snapshot."""
        body = StoreFiles(epoch=epoch, files=manifest(files, progress))
        upload = self._send(SnapshotUpload, "POST", f"{_path(id)}/files", body)
        if upload.state is not SnapshotState.READY or upload.missing:
            send_missing(self._client, upload.missing, files, progress)
            sealed = f"{_path(id)}/files/{segment(upload.digest)}/commit"
            self._send(Snapshot, "POST", sealed, SealFiles(epoch=epoch), timeout_s=SLOW_ANSWER_S)
        return upload.digest


def _path(id: str) -> str:
    return f"{_PATH}/{segment(id)}"
