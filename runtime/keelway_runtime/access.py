"""Who may call: keys, kept as sha256, and tokens, checked against public keys that this server was given.

Both come from files that may change while the server runs; nobody is asked, so that callers are let in while the rest
of the system is away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Any

import orjson

from keelway_runtime import log
from keelway_runtime.messages import Reply, refusal
from keelway_runtime.settings import Settings, SettingsError

ALGORITHMS = ("EdDSA", "RS256")
LEEWAY_S = 60
KNOWN_TOKENS = 1000
KNOWN_HEADERS = 100
SHA256 = re.compile(r"[0-9a-f]{64}")


class Access:
    """The keys and tokens that open this server; without either file it is open to everybody."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for a file that cannot be read or is none."""
        self._keys_file, self._tokens_file = settings.keys_file, settings.tokens_file
        self._realm = settings.service_name
        self._stamps: tuple[Any, ...] = ()
        self._keys: list[bytes] = []
        self._issuer = self._audience = ""
        self._public: dict[str, Any] = {}
        self._known: dict[bytes, float] = {}  # tokens that were right, by their hash, until they expire
        self._with_key: set[bytes] = set()  # headers that had a key, so that it is hashed once and not for each request
        try:
            self._load()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"the keys or tokens cannot be read: {error}") from error

    @property
    def is_open(self) -> bool:
        """Whether callers need neither key nor token."""
        return self._keys_file is None and self._tokens_file is None

    def refusal(self, authorization: bytes | None) -> Reply | None:
        """The answer to a caller who may not in."""
        if authorization in self._with_key or self.is_open:
            return None
        if authorization and self._is_right(authorization):
            return None
        wanted = "Send a key in the header Authorization: Bearer KEY"
        what = "The key or token is not valid" if authorization else wanted
        return refusal(401, what, f'www-authenticate: Bearer realm="{self._realm}"\r\n')

    def refresh(self) -> None:
        """Read files that have changed. What cannot be read leaves things as they are: a file may be half written."""
        try:
            if self._found() != self._stamps:
                self._load()
                log.event("keys changed")
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.event("keys not read", error=str(error))

    def _is_right(self, authorization: bytes) -> bool:
        scheme, _, secret = authorization.partition(b" ")
        secret = secret.strip()
        if scheme.lower() != b"bearer":
            return False
        if not self._is_key(secret):
            return self._is_token(secret)
        if len(self._with_key) < KNOWN_HEADERS:
            self._with_key.add(authorization)
        return True

    def _is_key(self, secret: bytes) -> bool:
        digest = hashlib.sha256(secret).digest()
        # All of them, whichever matches: the time it takes tells nothing.
        return any([hmac.compare_digest(digest, key) for key in self._keys])  # noqa: C419

    def _is_token(self, secret: bytes) -> bool:
        if not self._public or secret.count(b".") != 2:
            return False
        digest = hashlib.sha256(secret).digest()
        expires_at = self._known.get(digest) or self._expiry(secret)
        if expires_at is None or expires_at + LEEWAY_S < time.time():
            return False
        if len(self._known) >= KNOWN_TOKENS:
            self._known.clear()
        self._known[digest] = expires_at
        return True

    def _expiry(self, token: bytes) -> float | None:
        """When a token ends, if everything about it is right."""
        import jwt  # noqa: PLC0415  # only where tokens are used, as its wheels are large

        try:
            header = jwt.get_unverified_header(token)
            key = self._public.get(header.get("kid", ""))
            if key is None or header["alg"] not in ALGORITHMS or header["alg"] != key.algorithm_name:
                return None
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[header["alg"]],
                options={"require": ["exp", "iss", "aud"]},
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
            )
            return float(claims["exp"])
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            return None

    def _found(self) -> tuple[Any, ...]:
        return tuple(path and _stamp(path) for path in (self._keys_file, self._tokens_file))

    def _load(self) -> None:
        stamps = self._found()
        keys = _keys(self._keys_file) if self._keys_file else []
        if self._tokens_file:
            self._issuer, self._audience, self._public = _tokens(self._tokens_file)
        self._keys, self._stamps = keys, stamps
        self._known.clear()
        self._with_key.clear()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _keys(path: Path) -> list[bytes]:
    """The sha256 of each key, from {"primary": hex, "secondary": hex}."""
    found = orjson.loads(path.read_bytes())
    if not isinstance(found, dict) or not all(SHA256.fullmatch(value) for value in found.values()):
        raise ValueError(f"{path} must hold an object of sha256 digests")
    return [bytes.fromhex(value) for value in found.values()]


def _tokens(path: Path) -> tuple[str, str, dict[str, Any]]:
    """Issuer, audience and public keys by id, from {"issuer": ..., "audience": ..., "keys": [JWK, ...]}."""
    try:
        import jwt  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("tokens need PyJWT: install keelway-runtime[tokens]") from error
    found = orjson.loads(path.read_bytes())
    keys = {str(key["kid"]): jwt.PyJWK(key) for key in found["keys"] if key.get("alg", "") in ALGORITHMS}
    if not keys:
        raise ValueError(f"{path} must hold keys of {' or '.join(ALGORITHMS)}")
    return str(found["issuer"]), str(found["audience"]), keys
