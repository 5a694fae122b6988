"""The passwords, keys and tokens of one data directory: made once, at random, never printed."""

from __future__ import annotations

import secrets as random
from collections.abc import Callable
from pathlib import Path

from keelway_standalone.files import OWNER_FILE, write_whole


def token() -> str:
    """`kw_<id>_<secret>`: 12 hex characters to look it up by, and 256 random bits."""
    return f"kw_{random.token_hex(6)}_{random.token_urlsafe(32)}"


MAKERS: dict[str, Callable[[], str]] = {
    "postgres_superuser": lambda: random.token_urlsafe(32),
    "postgres_app": lambda: random.token_urlsafe(32),
    "redis": lambda: random.token_urlsafe(32),
    "s3_access_key": lambda: random.token_hex(10),
    "s3_secret_key": lambda: random.token_urlsafe(32),
    "weed_jwt_signing": lambda: random.token_hex(32),
    "weed_jwt_signing_read": lambda: random.token_hex(32),
    "weed_jwt_filer_signing": lambda: random.token_hex(32),
    "weed_jwt_filer_signing_read": lambda: random.token_hex(32),
    "admin_token": token,
    "worker_token": token,
    "gateway_token": token,
}


class Secrets:
    """One file each in a 0700 folder. A process is given the path; only we read the text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self) -> None:
        """Make what is missing; what is there stays as it is, except for a mode that others could read."""
        for name, maker in MAKERS.items():
            path = self.path(name)
            if not path.exists():
                # On the disk before anything uses it: a database whose password was lost is lost as well.
                write_whole(path, maker(), sync=True)
            elif path.stat().st_mode & 0o777 != OWNER_FILE:
                path.chmod(OWNER_FILE)

    def path(self, name: str) -> Path:
        """The file of a secret."""
        return self._folder / name

    def read(self, name: str) -> str:
        """The text of a secret."""
        return self.path(name).read_text().strip()

    def keep(self, name: str, text: str) -> Path:
        """Write what is derived anew at every start, e.g. a URL with a password in it."""
        write_whole(self.path(name), text)
        return self.path(name)
