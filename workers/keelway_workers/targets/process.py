"""Target `process`: a replica is an ordinary process of this node, in its environment's own Python."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from keelway.contracts.services import ReplicaSpec
from keelway_workers import procs
from keelway_workers.collected import SPOOL
from keelway_workers.environments import BuiltEnvironment
from keelway_workers.exit_codes import ExitCodes
from keelway_workers.layout import digests, lay_out, scoring_variables
from keelway_workers.node import Node
from keelway_workers.record import Record, load_record
from keelway_workers.replica_log import log_file, tail_of
from keelway_workers.subtree import Subtree
from keelway_workers.targets.base import Instance

MARK_REPLICA = "KEELWAY_REPLICA"
MARK_NODE = "KEELWAY_NODE_DIR"
PASSED_ON = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "TZ")
POLL_S = 0.02
Stray = tuple[int, str]  # a process by its pid and birth

logger = structlog.get_logger(__name__)


class ProcessTarget:
    """Replicas as processes in sessions of their own, which outlive the supervisor and are adopted by the next."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._exit_codes = ExitCodes()
        self._strays: set[Stray] = set()

    def is_available(self) -> bool:
        """Always: processes need nothing but the node."""
        return True

    def prepare(self, spec: ReplicaSpec, subtree: Subtree) -> None:
        """Have the environment and the blobs on this node."""
        self._node.environments.ensure(spec.environment, subtree=subtree, say=_say_build)
        self._node.cache.fetch(digests(spec), check=subtree.check)

    def start(self, spec: ReplicaSpec, subtree: Subtree) -> Instance:
        """Lay out a fresh app root and run the replica in it."""
        running = self.inspect(spec.name)
        if running and running.is_alive:
            return running
        folder = self._node.dir.replica(spec.name)
        record = load_record(folder, spec.name)
        record.pid = record.born = record.exit_code = None
        record.is_ready = False
        record.save(folder)
        self._kill_marked(spec.name)
        environment = self._node.environments.ensure(spec.environment, subtree=subtree, say=_say_build)
        app_root = folder / "app"
        lay_out(app_root, spec, self._node.cache, check=subtree.check)
        with _listener(self._node.replica_host, record.port) as listener:
            pid = self._spawn(spec, environment, app_root, listener.fileno())
            record.pid, record.born = pid, procs.birth(pid)
            record.host, record.port = self._node.replica_host, listener.getsockname()[1]
            record.started_at = datetime.now(UTC)
            record.save(folder)
        return self._instance(record, pid)

    def inspect(self, name: str) -> Instance | None:
        """The recorded process, if it is still the one that was started."""
        record = load_record(self._node.dir.replica(name), name)
        return self._instance(record, record.pid) if record.pid is not None else None

    def logs(self, name: str, tail: int) -> list[str]:
        """The last lines of stdout and stderr."""
        return tail_of(self._node.dir.replica(name), tail)

    def stop(self, name: str, grace_s: float) -> None:
        """SIGTERM to the process group, and after the grace SIGKILL to all that was started for this replica."""
        found = self.inspect(name)
        if found and found.is_alive:
            procs.send_group(found.pid, signal.SIGTERM)
            ends_at = time.monotonic() + grace_s
            while time.monotonic() < ends_at and self._is_alive(name):
                time.sleep(POLL_S)
            if self._is_alive(name):
                procs.send_group(found.pid, signal.SIGKILL)
        self._kill_marked(name)
        while self._is_alive(name):
            time.sleep(POLL_S)

    def tidy(self) -> None:
        """Kill replicas that no record adopts: started just before a supervisor was killed."""
        node = str(self._node.dir.root)
        names = {
            variables[MARK_REPLICA]
            for variables in procs.marked(MARK_REPLICA).values()
            if variables.get(MARK_NODE) == node
        }
        killed = sum(self._kill_marked(name) for name in names if not self._is_alive(name))
        if killed:
            logger.warning("ended replicas that nobody had written down", processes=killed)

    def sweep(self) -> None:
        """Kill strays that the last sweep saw as well: one that was just started is written down a moment later."""
        strays = self._find_strays()
        ended = [pid for pid, born in strays & self._strays if procs.birth(pid) == born]
        for pid in ended:
            procs.send(pid, signal.SIGKILL)
        if ended:
            logger.warning("ended processes of replicas that do not run", processes=len(ended))
        self._strays = strays

    def close(self) -> None:
        """It has no connections."""

    def _find_strays(self) -> set[Stray]:
        node = str(self._node.dir.root)
        found = {
            (pid, procs.birth(pid))
            for pid, variables in procs.marked(MARK_REPLICA).items()
            if variables.get(MARK_NODE) == node and not self._is_alive(variables[MARK_REPLICA])
        }
        return {(pid, born) for pid, born in found if born is not None}

    def _is_alive(self, name: str) -> bool:
        try:
            found = self.inspect(name)
        except ValueError:
            return False
        return found is not None and found.is_alive

    def _kill_marked(self, name: str) -> int:
        return procs.kill_marked({MARK_REPLICA: name, MARK_NODE: str(self._node.dir.root)})

    def _instance(self, record: Record, pid: int) -> Instance:
        is_alive = procs.is_alive(pid, record.born)  # before: one that ends in between would be dead without a code
        is_ending, exit_code = self._exit_codes.look(pid)
        return Instance(
            name=record.name,
            pid=pid,
            url=f"http://{record.host}:{record.port}",
            is_alive=is_alive or is_ending,
            exit_code=exit_code,
        )

    def _spawn(self, spec: ReplicaSpec, environment: BuiltEnvironment, app_root: Path, listen_fd: int) -> int:
        variables = replica_environ(spec, environment, app_root, listen_fd, os.environ)
        variables |= {MARK_REPLICA: spec.name, MARK_NODE: str(self._node.dir.root)}
        with log_file(self._node.dir.replica(spec.name)) as log:
            process = subprocess.Popen(
                [str(environment.python), "-m", "keelway_runtime"],
                cwd=app_root,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(listen_fd,),
                start_new_session=True,
            )
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        self._exit_codes.forget(process.pid)
        process.returncode = 0  # we wait for it by its pid, as for those that an earlier supervisor started
        return process.pid


def replica_environ(
    spec: ReplicaSpec, environment: BuiltEnvironment, app_root: Path, listen_fd: int, ours: os._Environ[str]
) -> dict[str, str]:
    """The whole environment of a replica: nothing of ours but what is named here, least of all a secret."""
    return {
        "PATH": f"{environment.path / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(app_root / "tmp"),
        "TMPDIR": str(app_root / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **{name: ours[name] for name in PASSED_ON if name in ours},
        **spec.environment.environment_variables,
        **scoring_variables(app_root, spec),
        "SERVICE_NAME": spec.service,
        "KEELWAY_WORKSPACE": spec.workspace,
        "KEELWAY_REVISION": spec.revision,
        "KEELWAY_LISTEN_FD": str(listen_fd),
        # Beside the app root, which is made anew at each start; empty is off.
        "KEELWAY_COLLECT_DIR": str(app_root.with_name(SPOOL)) if spec.collects_data else "",
    }


@contextmanager
def _listener(host: str, port: int | None) -> Iterator[socket.socket]:
    """A bound socket that does not listen yet: on the port of the last start, where the gateway looks, if free.

    Bound to the one address that the host's name has, and so to no other network of a node that is in several.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port or 0))
        except OSError:
            listener.bind((host, 0))
        yield listener
    finally:
        listener.close()


def _say_build(line: str) -> None:
    logger.info("environment", line=line)
