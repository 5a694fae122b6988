"""The worker's side of an inspection: starts the child, hands it ranges of bytes, takes its verdicts."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from keelway.contracts.safety import BlobInspection, InspectBlob
from keelway_workers.inspection import channel
from keelway_workers.inspection.verdict import not_inspectable
from keelway_workers.subtree import Subtree

TRIES = 2  # whoever was killed for what others did gets another chance
Read = Callable[[InspectBlob, int, int], bytes]
"""(blob, offset, length) to bytes. What it raises ends the inspection."""


def inspections(
    blobs: Sequence[InspectBlob], *, read: Read, subtree: Subtree, timeout_s: Callable[[], float]
) -> Iterator[list[BlobInspection]]:
    """Verdicts on all blobs, a handful at a time. A child that dies over a blob twice makes it `not-inspectable`.

    Raises what `read` raises, and WorkStopped when the subtree is killed.
    """
    waiting, tries = deque(blobs), 0
    while waiting:
        served = _Served(waiting, read)
        yield from served.run(subtree, timeout_s())
        if served.failure is not None:
            raise served.failure
        if not waiting:
            return
        tries = tries + 1 if served.count == 0 else 1
        if tries >= TRIES:
            blob, tries = waiting.popleft(), 0
            yield [_inspection(blob, not_inspectable(f"the inspection ended over it: {served.ending}").as_json())]


class _Served:
    """One child, from its first question to its end."""

    def __init__(self, waiting: deque[InspectBlob], read: Read) -> None:
        self._waiting = waiting
        self._read = read
        self._found: list[BlobInspection] = []
        self.count = 0
        self.ending = ""
        self.failure: BaseException | None = None

    def run(self, subtree: Subtree, timeout_s: float) -> Iterator[list[BlobInspection]]:
        """Serve a child until it ends; its verdicts, at once or as its death left them."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            server = threading.Thread(target=self._serve, args=(ours,), name="inspection", daemon=True)
            server.start()
            argv = [sys.executable, "-I", "-m", "keelway_workers.inspection", str(theirs.fileno())]
            lines: deque[str] = deque(maxlen=1)
            try:
                ended = subtree.run(
                    argv, env={"PATH": "/usr/bin:/bin"}, on_line=lines.append, timeout_s=timeout_s, passed=theirs
                )
            finally:
                server.join(timeout=10)  # what the child said last is still to be read
                with suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
                server.join()
        self.ending = f"exit code {ended.returncode}" + "".join(f", {line[:200]}" for line in lines)
        if self._found:
            yield self._found

    def _serve(self, ours: socket.socket) -> None:
        try:
            while True:
                self._answer(ours, *channel.receive(ours))
        except channel.Gone:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for the child
            self.failure = error
            with suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)

    def _answer(self, ours: socket.socket, kind: bytes, payload: bytes) -> None:
        if kind == channel.NEXT and not self._waiting:
            channel.send(ours, channel.END)
        elif kind == channel.NEXT:
            channel.send(ours, channel.FILE, str(self._waiting[0].size_bytes).encode())
        elif kind == channel.RANGE and self._waiting and len(payload) == channel.SPAN.size:
            channel.send(ours, channel.DATA, self._range(self._waiting[0], *channel.SPAN.unpack(payload)))
        elif kind == channel.VERDICT and self._waiting:
            self._found.append(_inspection(self._waiting[0], _parsed(payload)))
            self._waiting.popleft()
            self.count += 1
        else:
            raise channel.Gone("a question that makes no sense")

    def _range(self, blob: InspectBlob, offset: int, length: int) -> bytes:
        if not 0 < length <= channel.BLOCK or offset + length > blob.size_bytes:
            raise channel.Gone("a range outside the blob")
        return self._read(blob, offset, length)


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise channel.Gone("a verdict that is no JSON") from None


def _inspection(blob: InspectBlob, verdict: Any) -> BlobInspection:
    try:
        return BlobInspection.model_validate({**verdict, "sha256": blob.sha256})
    except (ValidationError, TypeError):
        raise channel.Gone("a verdict of another shape") from None
