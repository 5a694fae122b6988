"""Sends what replicas print to the API, from where it was when the API was away."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import structlog

from keelway.client import Client
from keelway.contracts.services import ReplicaLog, ReplicaLogs
from keelway.errors import ProblemError, Unreachable
from keelway_workers.node_dir import NodeDir
from keelway_workers.operation import is_passing
from keelway_workers.replica_log import TURN_BYTES, Piece, ReplicaLogFile

PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0

logger = structlog.get_logger(__name__)


class LogShipping:
    """One turn after another: at most 256 KiB from all replicas, each of which gets its share."""

    def __init__(self, client: Client, node_name: str, node: NodeDir) -> None:
        self._client = client
        self._node_name = node_name
        self._node = node
        self._files: dict[str, ReplicaLogFile] = {}
        self._lock = threading.Lock()

    def run(self, ending: threading.Event) -> None:
        """Ship until it is time to end."""
        pause_s = PAUSE_S
        while not ending.wait(pause_s):
            pause_s = PAUSE_S if self.turn() else min(pause_s * 2, LONGEST_PAUSE_S)

    def turn(self) -> bool:
        """Send what is new, rotate what is long. False when the API could not be reached."""
        with self._lock:
            names = self._node.replica_names()
            self._files = {name: file for name, file in self._files.items() if name in names}
            reached = self._ship(names)
            for name in names:
                self._rotate(name)
            return reached

    def last_words(self, name: str) -> None:
        """Send what a replica printed at its end, if the API is there; afterwards its log is removed."""
        with self._lock:
            self._ship([name])
            self._files.pop(name, None)

    def _ship(self, names: Iterable[str]) -> bool:
        names = list(names)
        share = TURN_BYTES // max(1, len(names))
        pieces = {name: piece for name in names if (piece := self._next_piece(name, max(share, 4096)))}
        try:
            self._send(pieces)
        except (ProblemError, Unreachable) as error:
            logger.info("replica logs wait", problem=str(error))
            return False
        return True

    def _send(self, pieces: dict[str, Piece]) -> None:
        if not pieces:
            return
        logs = [ReplicaLog(replica=name, offset=piece.offset, text=piece.text) for name, piece in pieces.items()]
        try:
            self._client.nodes.logs(self._node_name, ReplicaLogs(logs=logs[:1000]))
        except ProblemError as refused:
            if is_passing(refused):
                raise
            self._send_one_by_one(pieces, refused)
            return
        for name in list(pieces)[:1000]:
            self._mark_sent(name, pieces[name])

    def _send_one_by_one(self, pieces: dict[str, Piece], refused: ProblemError) -> None:
        """One replica that the API does not know must not hold up the logs of all others."""
        if len(pieces) > 1:
            for name, piece in pieces.items():
                self._send({name: piece})
            return
        for name, piece in pieces.items():
            logger.warning("the log of a replica was refused", replica=name, problem=str(refused))
            self._mark_sent(name, piece)

    def _next_piece(self, name: str, at_most: int) -> Piece | None:
        try:
            return self._file(name).next_piece(at_most)
        except OSError:
            return None  # removed meanwhile

    def _mark_sent(self, name: str, piece: Piece) -> None:
        try:
            self._file(name).mark_sent(piece)
        except OSError:
            return

    def _rotate(self, name: str) -> None:
        try:
            self._file(name).rotate()
        except OSError as error:
            logger.warning("the log of a replica could not be rotated", replica=name, problem=str(error))

    def _file(self, name: str) -> ReplicaLogFile:
        if name not in self._files:
            self._files[name] = ReplicaLogFile(self._node.replica(name))
        return self._files[name]
