"""Ports and the socket folder: chosen once, kept in the data directory, used again when still free."""

from __future__ import annotations

import json
import random
import shutil
import socket
import stat
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from keelway_standalone.errors import Refused
from keelway_standalone.files import write_whole

# Below the ports that Linux hands out to outgoing connections: one of those could sit on a port that we
# chose, just when its process is started again.
FIRST_PORT, LAST_PORT = 20_000, 32_000
S3_PORTS = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
ANY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared with, not bound to)


@dataclass
class Addresses:
    """Where everything of one data directory listens."""

    host: str = "127.0.0.1"
    port: int = 0
    gateway_port: int = 0
    s3: dict[str, int] = field(default_factory=dict)
    sockets: str = ""
    node: str = ""

    @property
    def local_host(self) -> str:
        """A host by which this machine reaches us."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://{bracketed(self.local_host)}:{self.port}"

    @property
    def gateway_url(self) -> str:
        """The base of every scoring address."""
        host = socket.gethostname() if self.host in ANY_HOST else self.host
        return f"http://{bracketed(host)}:{self.gateway_port}"

    @property
    def s3_endpoint(self) -> str:
        """host:port of the object store."""
        return f"127.0.0.1:{self.s3['s3']}"

    @property
    def s3_public_url(self) -> str:
        """The object store as the API's clients reach it; empty when they may be on other hosts."""
        return f"http://{self.s3_endpoint}" if self.host in LOOPBACK else ""

    @property
    def socket_dir(self) -> Path:
        """The folder of the Unix sockets."""
        return Path(self.sockets)


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def load(path: Path) -> Addresses:
    """What was kept; empty at the first start, or when the file cannot be read."""
    try:
        kept = json.loads(path.read_text())
        return Addresses(**{f.name: kept[f.name] for f in fields(Addresses) if f.name in kept})
    except (OSError, ValueError, TypeError, AttributeError):
        return Addresses()


def choose(path: Path, *, host: str, port: int, gateway_port: int) -> Addresses:
    """Settle all addresses and keep them. Port 0 means any; Refused when a wanted one is taken."""
    kept = load(path)
    taken: set[int] = set()
    chosen = Addresses(host=host, node=kept.node or socket.gethostname())
    chosen.port = _wanted(host, port, kept.port, taken, "the API")
    chosen.gateway_port = _wanted(host, gateway_port, kept.gateway_port, taken, "the gateway")
    chosen.s3 = {name: _kept_or_free("127.0.0.1", kept.s3.get(name, 0), taken) for name in S3_PORTS}
    remove_sockets(kept)
    # 107 bytes is the limit of a Unix socket's path; a data directory's own path may be longer than that.
    chosen.sockets = tempfile.mkdtemp(prefix="keelway-")
    write_whole(path, json.dumps(asdict(chosen), indent=2))
    return chosen


def remove_sockets(addresses: Addresses) -> None:
    """Remove the socket folder, ours or one that a killed `up` left behind."""
    folder = addresses.socket_dir
    if addresses.sockets and folder.name.startswith("keelway-") and folder.is_dir() and _is_private(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _is_private(folder: Path) -> bool:
    mode = folder.lstat().st_mode
    return stat.S_ISDIR(mode) and stat.S_IMODE(mode) == 0o700


def _wanted(host: str, port: int, kept: int, taken: set[int], what: str) -> int:
    if port == 0:
        return _kept_or_free(host, kept, taken)
    reason = why_taken(host, port)
    if reason or port in taken:
        raise Refused(f"port {port} on {host}, wanted for {what}, cannot be used: {reason or 'given twice'}")
    taken.add(port)
    return port


def _kept_or_free(host: str, kept: int, taken: set[int]) -> int:
    port = kept
    while not port or port in taken or why_taken(host, port):
        port = random.randint(FIRST_PORT, LAST_PORT)  # noqa: S311 (not a secret)
    taken.add(port)
    return port


def why_taken(host: str, port: int) -> str:
    """Why a process could not listen there, or an empty text when it could."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""
