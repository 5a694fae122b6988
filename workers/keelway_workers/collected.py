"""Sends what replicas collected to the API, file by file, and removes what has arrived there."""
# ruff: noqa: N818  (named after what happened, as the SDK's errors are)

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import structlog

from keelway.client import Client
from keelway.contracts.collected import MAX_COLLECTED_BYTES, is_collected_file
from keelway.errors import InvalidRequest, NotFound, ProblemError, TooLarge, Unreachable
from keelway_workers.failures import WorkStopped
from keelway_workers.node_dir import NodeDir

SPOOL = "collected"
PART = ".part"
FILES_A_TURN = 16  # of each replica: one that has much to tell must not hold up all others
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
LAST_TRIES, LAST_PAUSE_S = 12, 5.0

logger = structlog.get_logger(__name__)


class NotAFile(Exception):
    """A script has put something else there."""


class CollectedShipping:
    """One turn after another, until `ending` is set. A file that was sent twice is the same file to the API."""

    def __init__(self, client: Client, node_name: str, node: NodeDir, ending: threading.Event) -> None:
        self._client = client
        self._node_name = node_name
        self._node = node
        self._ending = ending

    def run(self) -> None:
        """Ship until it is time to end."""
        pause_s = PAUSE_S
        while not self._ending.wait(pause_s):
            pause_s = PAUSE_S if self.turn() else min(pause_s * 2, LONGEST_PAUSE_S)

    def turn(self) -> bool:
        """Send some closed files of each replica. False when one of them has to wait."""
        has_sent = True
        for name in self._node.replica_names():
            try:
                self._send_some(name)
            except (ProblemError, OSError) as error:
                logger.warning("collected data wait", replica=name, problem=str(error))
                has_sent = False
            except Unreachable as error:
                logger.info("collected data wait", problem=str(error))
                return False
        return has_sent

    def last_files(self, name: str) -> None:
        """Send all that a replica collected, now that nothing of it runs; afterwards its folder is removed.

        While nobody answers this waits; what an API that answers does not take within a minute is given up.
        Raises WorkStopped when the supervisor ends meanwhile.
        """
        _close_all(self._spool(name))
        tries = 0
        while tries < LAST_TRIES:
            try:
                while self._send_some(name):
                    pass
            except Unreachable as error:
                logger.info("collected data wait", replica=name, problem=str(error))
            except (ProblemError, OSError) as error:
                logger.warning("collected data wait", replica=name, problem=str(error))
                tries += 1
            else:
                if not self._ending.is_set():
                    return
            if self._ending.wait(LAST_PAUSE_S):
                raise WorkStopped
        logger.error("collected data lost", replica=name, files=sum(1 for _ in _closed(self._spool(name))))

    def _spool(self, name: str) -> Path:
        return self._node.replica(name) / SPOOL

    def _send_some(self, name: str) -> int:
        """Send the oldest files of a replica; how many they were. Not all of a turn's when it is time to end."""
        spool, sent = self._spool(name), 0
        for path in islice(_closed(spool), FILES_A_TURN):
            if self._ending.is_set():
                break
            self._send(name, path, path.relative_to(spool).parts)
            sent += 1
        return sent

    def _send(self, name: str, path: Path, parts: tuple[str, ...]) -> None:
        try:
            content = _content(path)
            self._client.nodes.send_collected(self._node_name, name, parts, content)
        except FileNotFoundError:
            return  # somebody else has sent it
        except (NotAFile, TooLarge, InvalidRequest, NotFound) as refused:
            if isinstance(refused, NotFound) and refused.fields.get("kind") != "replica":
                raise  # not what is asked for is unknown, but where it is asked
            logger.error("collected data refused", replica=name, file="/".join(parts), problem=str(refused))
        path.unlink(missing_ok=True)


def _closed(spool: Path) -> Iterator[Path]:
    """Files that their writer has closed, the oldest of each folder first. Links to folders are not followed."""
    return (path for path in sorted(spool.rglob("*.csv")) if is_collected_file(path.relative_to(spool).parts))


def _close_all(spool: Path) -> None:
    """Nobody writes any more: what is not closed is so now."""
    for part in spool.rglob(f"*.csv.*{PART}"):
        if part.stat().st_size:
            part.rename(part.with_suffix("").with_suffix(""))


def _content(path: Path) -> bytes:
    """The bytes of a plain file. NotAFile for a link or a pipe, and for one that is larger than what is taken."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise NotAFile(error.strerror) from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_COLLECTED_BYTES:
            raise NotAFile(f"{stat.filemode(found.st_mode)}, {found.st_size} bytes")
        return file.read(MAX_COLLECTED_BYTES)
