"""The shape of a token: `kw_<12 hex: id>_<43 url-safe characters: secret>`."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

PATTERN = re.compile(r"kw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class TokenSecret:
    """A token as its holder sends it. Its repr shows no secret."""

    id: str
    secret: str

    @classmethod
    def new(cls) -> TokenSecret:
        """256 random bits: a fast hash is enough to store it by."""
        return cls(secrets.token_hex(6), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> TokenSecret | None:
        """The token in `text`, or None when it has not the shape of one."""
        found = PATTERN.fullmatch(text)
        return cls(found[1], found[2]) if found else None

    @property
    def text(self) -> str:
        """What goes behind `Bearer`."""
        return f"kw_{self.id}_{self.secret}"

    @property
    def sha256(self) -> bytes:
        """What is stored."""
        return hashlib.sha256(self.secret.encode()).digest()

    def __repr__(self) -> str:
        return f"TokenSecret(id={self.id!r})"
