"""What a node remembers of a replica: enough to adopt it after a restart of the supervisor."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from keelway.contracts.services import ReplicaSpec
from keelway_workers.node_dir import write_atomically


class Record(BaseModel):
    """One replica. `pid` and `born` name its process; both absent while it is being started."""

    name: str
    spec_digest: str = ""
    generation: int = 0
    target: str = "process"
    pid: int | None = None
    born: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    restarts: int = 0
    started_at: datetime | None = None
    is_ready: bool = False  # this process
    was_ready: bool = False  # any process of this spec
    failed: bool = False
    reason: str = ""
    exit_code: int | None = None

    def save(self, folder: Path) -> None:
        """Write it down; after this it survives a crash."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(_file(folder), self.model_dump_json(indent=2))


def load_record(folder: Path, name: str) -> Record:
    """What is remembered; a new record when there is none, or one that cannot be read."""
    try:
        return Record.model_validate_json(_file(folder).read_bytes())
    except (OSError, ValidationError):
        return Record(name=name)


def digest_of(spec: ReplicaSpec) -> str:
    """What a process was started from: the spec without the generation that it was asked for in."""
    return hashlib.sha256(spec.model_dump_json(exclude={"generation"}).encode()).hexdigest()


def _file(folder: Path) -> Path:
    return folder / "record.json"
