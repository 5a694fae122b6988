"""Model data collection: rows that a script hands over, as CSV files in a spool that the node empties.

A file is `<model>/<version>/<designation>/<name>-<UTC time of its first row>-<random>.csv`; until it is closed, the pid
of its writer and `.part` stand behind its name, so that the next start finds what a dead one left.
"""

from __future__ import annotations

import atexit
import csv
import io
import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Sequence
from uuid import uuid4

import orjson

from keelway_runtime import log, model_path
from keelway_runtime.encode import encode
from keelway_runtime.settings import MEBIBYTE, Settings

FILE_BYTES, FILE_AGE_S, FILES_MAX = 8 * MEBIBYTE, 60.0, 32
CALL_BYTES, QUEUE_BYTES = 16 * MEBIBYTE, 32 * MEBIBYTE
COLUMNS_MAX = 1000  # that calls of different shape share
BLOCK_BYTES = 4096  # the least that a file takes on a disk
FLUSH_S, TICK_S, MEASURE_S, TELL_S = 5.0, 1.0, 1.0, 60.0
OWN_COLUMNS = ["$requestId", "$timestamp", "$correlationId"]
OFF = "collect() does nothing: dataCollection.storageEnabled in the service's deployment config switches it on"
_MODEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}")
_NUMBERS = re.compile(rb"\[\[[-+.,eE0-9\[\]]*\]\]")
_PLAIN = (str, int, float, bool, type(None))
_lock = threading.Lock()
_writers: dict[int, _Writer | None] = {}  # by process: one that was forked has no thread of its own
_dropped, _told_at = 0, -TELL_S


def dropped_rows() -> int:
    """How many rows this process could not keep."""
    return _dropped


class ModelDataCollector:
    """Collects rows of one kind; azureml.monitoring's class.

    Workspace and service are those of the replica, whatever is given. Raises ValueError for a name that no model has.
    """

    def __init__(
        self,
        model_name: str,
        designation: str = "default",
        feature_names: Sequence[str] | None = None,
        workspace: Any = None,
        webservice_name: Any = None,
        model_version: Any = None,
        collection_name: str | None = None,
        *,
        identifier: str | None = None,
    ) -> None:
        if not isinstance(model_name, str) or not _MODEL.fullmatch(model_name):
            raise ValueError(f"{model_name!r} is no name for a model")
        kind = _identifier(identifier or designation)
        kind = "general" if kind == "default" else kind
        version = _identifier(model_version or _newest(model_name) or "unknown")
        self._folder = f"{model_name}/{version}/{kind}"
        self._name = _identifier(collection_name) if collection_name and kind in ("signals", "general") else kind
        self._feature_names = [str(name) for name in (() if feature_names is None else feature_names)]
        self._columns: list[str] = []

    def collect(self, data: Any, user_correlation_id: str = "") -> dict[str, str]:
        """Take rows, to be written later; what is told of them all. Neither raises nor waits for the disk."""
        at = datetime.now(timezone.utc)
        own = [log.request_id.get(), at.isoformat(timespec="milliseconds"), str(user_correlation_id)]
        count = 1
        try:
            if writer := _writer():
                columns, rows = table(data, self._feature_names)
                count = len(rows)
                columns, rows = _shared(self._columns, columns, rows)
                self._columns = columns
                header, lines = _lines([[*OWN_COLUMNS, *columns]]), _lines_of(own, rows)
                if lines:
                    writer.put(_Call(self._folder, self._name, at, header, lines, count))
        except Exception as error:  # noqa: BLE001 - the edge to whatever a script hands over
            _drop(count, f"no table: {error!r}")
        return dict(zip(OWN_COLUMNS, own))

    def add_correlations(self, data: Any, correlations: Any = None) -> Any:
        """The data as they are: rows of one request have its id anyway."""
        return data


def table(data: Any, names: list[str]) -> tuple[list[str], list[Sequence[Any]]]:
    """Columns and rows of a frame, an array, a list, a dict or a single value.

    Flat data are one row, as they always were; with a single feature name they are its column.
    """
    data = data.toPandas() if hasattr(data, "toPandas") else data.toarray() if hasattr(data, "toarray") else data
    if hasattr(data, "itertuples"):
        columns, rows = list(data.columns), list(data.itertuples(index=False, name=None))
    else:
        data = data.tolist() if hasattr(data, "tolist") else data
        columns, rows = _table_of(data if isinstance(data, (list, tuple)) else [data], is_column=len(names) == 1)
    columns = [str(name) for name in [*names[: len(columns)], *columns[len(names) :]]]
    is_unique = len(set(columns)) == len(columns)
    return columns if is_unique else [f"{name}.{n}" for n, name in enumerate(columns)], rows


def _table_of(data: Sequence[Any], *, is_column: bool) -> tuple[list[Any], list[Sequence[Any]]]:
    if data and all(isinstance(row, dict) for row in data):
        columns = list(dict.fromkeys(key for row in data for key in row))
        return columns, [[row.get(key) for key in columns] for row in data]
    data = [row.tolist() if hasattr(row, "tolist") else row for row in data]
    if not data or not all(isinstance(row, (list, tuple)) for row in data):
        data = [[value] for value in data] if is_column else [data] if data else []
    return list(range(max(map(len, data), default=0))), data


def _shared(known: list[str], columns: list[str], rows: list[Sequence[Any]]) -> tuple[list[str], list[Sequence[Any]]]:
    """The rows under the columns of all calls so far, lest each shape has a file of its own."""
    shared = list(dict.fromkeys([*known, *columns]))
    if len(shared) > max(COLUMNS_MAX, len(columns)) or shared == columns:
        return columns, rows
    cells = (dict(zip(columns, row)) for row in rows)
    return shared, [[row.get(name) for name in shared] for row in cells]


def _lines_of(own: list[str], rows: list[Sequence[Any]]) -> bytes:
    """The rows as CSV; those of nothing but numbers by way of JSON, which is many times as fast."""
    with suppress(TypeError):
        packed = orjson.dumps(rows)
        if _NUMBERS.fullmatch(packed) and packed.count(b"[") == len(rows) + 1:
            start = _lines([[*own, ""]])[:-2]
            return start + packed[2:-2].replace(b"],[", b"\r\n" + start) + b"\r\n"
    return _lines([*own, *map(_cell, row)] for row in rows)


def _lines(rows: Iterable[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)  # lines end in \r\n, and cells with either are quoted in every release
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    """The value as a CSV cell: one that is neither number nor text as its JSON."""
    if isinstance(value, _PLAIN):
        return value
    text = encode(value).decode().strip('"')
    return "" if text == "null" else text


def _identifier(given: Any) -> str:
    """What was given, as a part of a path."""
    return re.sub(r"[^a-zA-Z0-9\-._]+", "-", str(given)).lstrip("-._")[:64] or "general"


def _newest(model: str) -> str | None:
    found = [one.rpartition(":") for one in model_path.installed(model_path.app_root() / model_path.MODELS_DIR)]
    return next((version for name, _, version in reversed(found) if name == model), None)


def _writer() -> _Writer | None:
    """This process's writer; None when nothing is to be collected."""
    pid = os.getpid()
    with _lock:
        if pid not in _writers:
            settings = Settings.from_environ({"AZUREML_ENTRY_SCRIPT": "-", **os.environ})
            folder = settings.collect_dir
            _writers[pid] = _Writer(folder, settings.collect_max_bytes) if folder else None
            if folder is None:
                log.event("collection is off", message=OFF)
        return _writers[pid]


def _drop(rows: int, reason: str) -> None:
    global _dropped, _told_at  # noqa: PLW0603 - counted for the whole process
    with _lock:
        _dropped += rows
        is_news = time.monotonic() - _told_at >= TELL_S
        _told_at = time.monotonic() if is_news else _told_at
    if is_news:
        log.event("collected rows dropped", rows=rows, reason=reason, total=_dropped)


class _Call(NamedTuple):
    """What one call handed over, as CSV: its lines go to a file of this folder that has this header."""

    folder: str
    name: str
    at: datetime
    header: bytes
    lines: bytes
    rows: int


class _Writer:
    """A bounded queue, and the thread that makes files of what is in it."""

    def __init__(self, spool: Path, max_bytes: int) -> None:
        self._spool, self._max_bytes = spool, max_bytes
        self._used_bytes, self._measured_at = 0, -MEASURE_S
        self._queue: deque[_Call] = deque()
        self._queued_bytes = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._files: dict[tuple[str, str, bytes], _File] = {}
        self._thread = threading.Thread(target=self._run, name="collect", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, call: _Call) -> None:
        """Have it written; what finds no room in the queue is dropped."""
        with self._changed:
            is_taken = self._queued_bytes + len(call.lines) <= QUEUE_BYTES and not self._is_closing
            if is_taken:
                self._queue.append(call)
                self._queued_bytes += len(call.lines)
                self._changed.notify()
        if not is_taken:
            _drop(call.rows, "they come faster than they can be written")

    def close(self) -> None:
        """Write what is queued and close all files, for as long as that may take at the end of a process."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(FLUSH_S)

    def _run(self) -> None:
        with suppress(OSError):
            close_abandoned(self._spool)
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Write one call, if there is one; False once all is written and nothing more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closing, TICK_S if self._files else None)
            call = self._queue.popleft() if self._queue else None
            self._queued_bytes -= len(call.lines) if call else 0
            is_last = call is None and self._is_closing
        reason = self._keep(call) if call else ""
        if call and reason:
            _drop(call.rows, reason)
        oldest = time.monotonic() - (0 if is_last else FILE_AGE_S)
        old = [key for key, file in self._files.items() if file.opened_at <= oldest]
        for key in old or list(self._files)[:-FILES_MAX]:
            self._files.pop(key).close()
        return not is_last

    def _keep(self, call: _Call) -> str:
        """Add lines to the file that has such; why they cannot be."""
        key = (call.folder, call.name, call.header)
        file = self._files.get(key)
        if file and file.size_bytes + len(call.lines) > FILE_BYTES:
            self._files.pop(key).close()
            file = None
        lines = call.lines if file else call.header + call.lines
        if len(lines) > CALL_BYTES:
            return "there are too many in one call"
        try:
            if not self._has_room(len(lines) if file else max(BLOCK_BYTES, len(lines))):
                return "the spool is full"
            if file is None:
                file = self._files[key] = _File(self._spool / call.folder, call.name, call.at)
            file.write(lines)
        except OSError as error:
            if key in self._files:
                self._files.pop(key).close()
            return f"the spool cannot be written: {error.strerror or error}"
        return ""

    def _has_room(self, size_bytes: int) -> bool:
        if time.monotonic() - self._measured_at >= MEASURE_S:  # the node takes away, other workers add
            with suppress(FileNotFoundError):  # taken away at this moment
                self._used_bytes = sum(max(BLOCK_BYTES, file.stat().st_size) for file in self._spool.rglob("*-*.csv*"))
                self._measured_at = time.monotonic()
        has_room = self._used_bytes + size_bytes <= self._max_bytes
        self._used_bytes += size_bytes if has_room else 0
        return has_room


class _File:
    """One file on its way; it shows under its own name once it is closed."""

    def __init__(self, folder: Path, name: str, at: datetime) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{name}-{at:%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}.csv"
        self._part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        self._stream = self._part.open("xb", buffering=0)
        self.opened_at, self.size_bytes = time.monotonic(), 0

    def write(self, lines: bytes) -> None:
        """All of it or, when it raises OSError, nothing."""
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
        except OSError:
            self._stream.truncate(self.size_bytes)
            raise
        self.size_bytes += len(lines)

    def close(self) -> None:
        """Have it shipped; one in which nothing could be written goes."""
        with suppress(OSError):
            self._part.rename(self._path) if self.size_bytes else self._part.unlink()
        self._stream.close()


def close_abandoned(spool: Path) -> None:
    """Give the files of writers that have died their names."""
    for part in spool.rglob("*.csv.*.part"):
        pid = part.name.split(".")[-2]
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            part.rename(part.with_suffix("").with_suffix("")) if part.stat().st_size else part.unlink()
