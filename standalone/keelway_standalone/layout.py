"""The data directory: what lies where, and whether it is ours to use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from keelway_standalone.errors import Refused
from keelway_standalone.files import owner_dir


def default_data_dir() -> Path:
    """$KEELWAY_DATA_DIR, else the place the XDG base directory specification gives."""
    if chosen := os.environ.get("KEELWAY_DATA_DIR"):
        return Path(chosen)
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "keelway"


@dataclass(frozen=True)
class Layout:
    """Paths inside one data directory."""

    root: Path

    @classmethod
    def at(cls, data_dir: Path | None) -> Layout:
        """The layout of a data directory, by its absolute path; nothing is made."""
        return cls((data_dir or default_data_dir()).expanduser().resolve())

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def addresses(self) -> Path:
        return self.root / "addresses.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def s3(self) -> Path:
        return self.root / "s3"

    @property
    def gateway(self) -> Path:
        return self.root / "gateway"

    @property
    def routes(self) -> Path:
        """Written by the supervisor, read by the gateway; JSON text, but Traefik wants a YAML name."""
        return self.gateway / "routes.yml"

    @property
    def node(self) -> Path:
        return self.root / "node"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, name: str) -> Path:
        """Where the process of that name writes."""
        return self.logs / f"{name}.log"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Everything that must be 0700."""
        return (self.root, self.secrets, self.postgres, self.redis, self.s3, self.gateway, self.node, self.logs)

    def make(self) -> None:
        """Make the folders. Refuses a folder of somebody else, or one that holds other things."""
        self._refuse_foreign()
        for folder in self.folders:
            owner_dir(folder)

    def _refuse_foreign(self) -> None:
        if not self.root.exists():
            return
        if not self.root.is_dir():
            raise Refused(f"{self.root} is not a folder")
        if self.root.stat().st_uid != os.geteuid():
            raise Refused(f"{self.root} belongs to another user (uid {self.root.stat().st_uid})")
        if not self.secrets.is_dir() and any(path != self.lock for path in self.root.iterdir()):
            raise Refused(f"{self.root} holds other things: give --data-dir an empty folder, or one that Keelway made")
