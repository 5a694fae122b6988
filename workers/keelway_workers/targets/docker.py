"""Target `docker`: a replica is a container of its environment's image, which may read its model and script alone."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import structlog

from keelway.contracts.services import ReplicaSpec
from keelway_workers.containers import AWAY, REPLICA, Container, Containers, ContainerSpec
from keelway_workers.failures import WorkFailed
from keelway_workers.images.engine import Engine
from keelway_workers.images.recipe import APP_ROOT, PORT, USER_ID
from keelway_workers.images.store import load_files
from keelway_workers.layout import MODELS, SOURCE, digests, lay_out, scoring_variables
from keelway_workers.node import Node
from keelway_workers.record import Record, load_record
from keelway_workers.replica_log import tail_of
from keelway_workers.subtree import Subtree
from keelway_workers.targets.base import Instance
from keelway_workers.targets.container_log import ContainerLog

NETWORK = "keelway-replicas"
LOOK_AGAIN_S = 30.0
WRITABLE = {APP_ROOT: f"uid={USER_ID},gid={USER_ID},mode=0755", "/tmp": "mode=1777"}  # noqa: S108 - of the container

logger = structlog.get_logger(__name__)


class DockerTarget:
    """Replicas as containers, which outlive the supervisor and are adopted by the next."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._containers = Containers(node.dir.identity)
        self._logs: dict[str, ContainerLog] = {}
        self._last_seen: dict[str, Instance] = {}
        self._strays: set[str] = set()
        self._look_again_at = 0.0

    def is_available(self) -> bool:
        """Whether this node has an engine that answers."""
        return self._containers.is_engine_there()

    def prepare(self, spec: ReplicaSpec, subtree: Subtree) -> None:
        """Have the image in the engine, and the blobs on this node."""
        if spec.image is None or spec.resources is None:
            raise WorkFailed("image-not-found", "it was placed without an image")
        with contextlib.closing(Engine(subtree.check)) as engine:
            if engine.image(spec.image.image_id) is None:
                logger.info("loading an image that the engine has lost", image=spec.image.name)
                self._node.cache.fetch([file.sha256 for file in spec.image.files], check=subtree.check)
                load_files(engine, self._node.dir, spec.image.files, subtree.check, _say)
        self._node.cache.fetch(digests(spec), check=subtree.check)

    def start(self, spec: ReplicaSpec, subtree: Subtree) -> Instance:
        """Lay out a fresh app root and run a container that sees it."""
        running = self.inspect(spec.name)
        if running and running.is_alive:
            return running
        folder = self._node.dir.replica(spec.name)
        record = load_record(folder, spec.name)
        record.pid = record.born = record.exit_code = None
        record.is_ready = False
        record.save(folder)
        try:
            self._containers.remove(self._name(spec.name))
            lay_out(folder / "app", spec, self._node.cache, check=subtree.check)
            _open_to_readers(folder / "app")
            network = self._node.replica_network or NETWORK
            if not self._node.replica_network:
                self._containers.ensure_network(network)
            container = self._containers.run(self._spec(spec, folder / "app", network))
            record.pid, record.born = self._containers.pid(container.id), container.id
        except AWAY as error:
            raise WorkFailed("engine-not-available", f"the container engine does not answer: {error}") from None
        record.host, record.port = container.address, PORT
        record.started_at = datetime.now(UTC)
        record.save(folder)
        self._follow(record, container.id)
        return self._instance(record, container)

    def inspect(self, name: str) -> Instance | None:
        """The recorded container, if it is still the one that was started; as it was while the engine is away."""
        record = load_record(self._node.dir.replica(name), name)
        if record.born is None:
            return None
        try:
            container = self._containers.by_name().get(self._name(name))
            found = self._instance(record, container)
        except AWAY:
            return self._last_seen.get(name) or self._instance_of(record, is_alive=True)
        if found.is_alive:
            self._follow(record, record.born)
        self._last_seen[name] = found
        return found

    def logs(self, name: str, tail: int) -> list[str]:
        """The last lines of stdout and stderr."""
        return tail_of(self._node.dir.replica(name), tail)

    def stop(self, name: str, grace_s: float) -> None:
        """Ask it to end, end it after the grace, hear its last words, remove it."""
        self._last_seen.pop(name, None)
        self._containers.stop(self._name(name), grace_s)
        if log := self._logs.pop(name, None):
            log.end()
        self._containers.remove(self._name(name))

    def tidy(self) -> None:
        """Remove containers that no record adopts: started just before a supervisor was killed."""
        self._remove(self._find_strays())

    def sweep(self) -> None:
        """Remove strays that the last sweep saw as well: one that was just started is written down a moment later."""
        strays = self._find_strays()
        self._remove(strays & self._strays)
        self._strays = strays

    def close(self) -> None:
        """Let go of the engine; containers go on running, and what they print is read by the next supervisor."""
        for log in self._logs.values():
            log.leave()
        self._containers.close()

    def _find_strays(self) -> set[str]:
        """Containers of this node that are no replica's; others' are never looked at."""
        if time.monotonic() < self._look_again_at:
            return set()
        try:
            containers = self._containers.by_name(fresh=True)
        except AWAY:  # whoever sweeps has other targets, and must not wait for an engine that hangs each time
            self._look_again_at = time.monotonic() + LOOK_AGAIN_S
            return set()
        return {container.id for container in containers.values() if not self._is_recorded(container)}

    def _is_recorded(self, container: Container) -> bool:
        name = container.labels.get(REPLICA, "")
        with contextlib.suppress(ValueError):
            return load_record(self._node.dir.replica(name), name).born == container.id
        return False

    def _remove(self, containers: set[str]) -> None:
        for container in containers:
            with contextlib.suppress(*AWAY):
                self._containers.remove(container)
        if containers:
            logger.warning("removed containers of replicas that do not run", containers=len(containers))

    def _name(self, replica: str) -> str:
        return f"keelway-{self._node.dir.identity[:8]}-{replica}"

    def _follow(self, record: Record, container: str) -> None:
        known = self._logs.get(record.name)
        if known is None or known.container != container:
            self._logs[record.name] = ContainerLog(self._containers, container, self._node.dir.replica(record.name))

    def _instance(self, record: Record, container: Container | None) -> Instance:
        if container is not None and container.id == record.born and container.is_running:
            return self._instance_of(record, is_alive=True)
        ended = self._containers.how_ended(record.born or "")
        return self._instance_of(
            record,
            is_alive=False,
            exit_code=ended.exit_code,
            ending="ran out of the memory that its container may have" if ended.is_out_of_memory else None,
        )

    @staticmethod
    def _instance_of(
        record: Record, *, is_alive: bool, exit_code: int | None = None, ending: str | None = None
    ) -> Instance:
        url = f"http://{record.host}:{record.port}"
        return Instance(record.name, record.pid or 0, url, is_alive, exit_code, ending)

    def _spec(self, spec: ReplicaSpec, app: Path, network: str) -> ContainerSpec:
        assert spec.image is not None, "prepare has seen to that"
        assert spec.resources is not None, "prepare has seen to that"
        return ContainerSpec(
            name=self._name(spec.name),
            image=spec.image.image_id,
            network=network,
            labels={
                REPLICA: spec.name,
                "org.keelway.workspace": spec.workspace,
                "org.keelway.service": spec.service,
                "org.keelway.revision": spec.revision,
            },
            variables={
                **spec.environment.environment_variables,
                **scoring_variables(PurePosixPath(APP_ROOT), spec),
                "KEELWAY_HOST": "0.0.0.0",  # noqa: S104 - of its container
                "KEELWAY_PORT": str(PORT),
                "SERVICE_NAME": spec.service,
                "KEELWAY_WORKSPACE": spec.workspace,
                "KEELWAY_REVISION": spec.revision,
            },
            read_only={app / name: f"{APP_ROOT}/{name}" for name in (MODELS, SOURCE)},
            writable=WRITABLE,
            cpu_share=spec.resources.cpu,
            most_cpu=spec.resources.most_cpu,
            most_memory_bytes=spec.resources.most_memory_bytes,
        )


def _open_to_readers(root: Path) -> None:
    """Have the container's user, who is nobody here, read what it is shown. The folder above stays closed to others."""
    for folder, _, names in os.walk(root):
        Path(folder).chmod(0o755)
        for name in names:
            (Path(folder) / name).chmod(0o644)


def _say(line: str) -> None:
    logger.info("engine", line=line)
