"""Containers on this node's engine, all made in one place: what runs in them is never trusted."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.errors import APIError, DockerException, NotFound
from docker.types import CancellableStream, LogConfig, Mount
from docker.utils import kwargs_from_env

from keelway_workers.failures import WorkFailed

NODE, REPLICA = "org.keelway.node", "org.keelway.replica"  # labels: whose it is, and which replica
ANSWER_TIMEOUT_S = 60
LOOK_TIMEOUT_S = 5  # for those who look at everything now and then, and have other things to do
UNIX = ("unix://", "http+unix://")
LOOK_EVERY_S = 0.2  # one listing serves all who look within this time
MOST_PROCESSES = 512
LOG_LIMITS = {"max-size": "10m", "max-file": "2"}  # the engine's own copy; ours is kept apart
SIGNALLED = 128  # an exit code beyond it is that of a program which a signal ended

# What an engine that is not there, or goes away, looks like.
AWAY = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, DockerException)


@dataclass(frozen=True)
class ContainerSpec:
    """A container that is to run: an image, what it may read, and how much it may use."""

    name: str
    image: str
    network: str
    labels: Mapping[str, str]
    variables: Mapping[str, str]
    read_only: Mapping[Path, str]  # folder of the host -> folder inside
    writable: Mapping[str, str]  # folder inside -> options of its tmpfs
    cpu_share: float
    most_cpu: float
    most_memory_bytes: int


@dataclass(frozen=True)
class Container:
    """A container as the engine knows it."""

    id: str
    labels: Mapping[str, str]
    is_running: bool
    address: str


@dataclass(frozen=True)
class Ended:
    """How a container ended. A negative exit code is a signal's number."""

    exit_code: int | None
    is_out_of_memory: bool


def hardened(api: docker.APIClient, **more: Any) -> dict[str, Any]:
    """The settings that every container of ours has: no capabilities, none to be had, a bounded number of processes."""
    return api.create_host_config(
        cap_drop=["ALL"], security_opt=["no-new-privileges"], pids_limit=MOST_PROCESSES, **more
    )


class StreamingApi(docker.APIClient):
    """The SDK's client, which remembers what it streams, so that another thread can end it."""

    def __init__(self, **settings: Any) -> None:
        self.streams: list[requests.Response] = []
        super().__init__(**settings)

    def _stream_helper(self, response: requests.Response, decode: bool = False) -> Iterator[Any]:
        self.streams.append(response)
        return super()._stream_helper(response, decode=decode)  # type: ignore[misc]

    def _stream_raw_result(self, response: requests.Response, *args: Any, **named: Any) -> Iterator[Any]:
        self.streams.append(response)
        return super()._stream_raw_result(response, *args, **named)  # type: ignore[misc]

    def close_streams(self) -> None:
        """Give back the connections of what was streamed, also when it was not heard to its end."""
        for response in self.streams:
            response.close()
        self.streams.clear()

    def cut(self) -> None:
        """End everything that is being streamed: the engine takes a lost listener for a cancellation."""
        for response in self.streams:
            with contextlib.suppress(Exception):
                CancellableStream(iter(()), response).close()


class Containers:
    """One node's containers on its engine, by their label. Every method raises what `AWAY` names when it is away."""

    def __init__(self, node: str) -> None:
        self._own_label = {NODE: node}
        self._clients: dict[float, StreamingApi] = {}
        self._lock = threading.Lock()
        self._listed: dict[str, Container] = {}
        self._listed_at = float("-inf")

    def is_engine_there(self) -> bool:
        """Whether an engine answers."""
        with contextlib.suppress(*AWAY):
            return bool(self._api(LOOK_TIMEOUT_S).ping())
        return False

    def by_name(self, *, fresh: bool = False) -> dict[str, Container]:
        """All of them, as they were a moment ago at most."""
        with self._lock:
            if fresh or time.monotonic() - self._listed_at > LOOK_EVERY_S:
                self._listed = self._list()
                self._listed_at = time.monotonic()
            return self._listed

    def _list(self) -> dict[str, Container]:
        try:
            filters = {"label": [f"{NODE}={self._own_label[NODE]}"]}
            found = self._api(LOOK_TIMEOUT_S).containers(all=True, filters=filters)
        except AWAY:
            self.close()  # connected anew when it is there again
            raise
        return {each["Names"][0].lstrip("/"): _container(each) for each in found if each["Names"]}

    def run(self, spec: ContainerSpec) -> Container:
        """Run one. WorkFailed in words when the engine refuses."""
        api = self._api()
        try:
            made = api.create_container(
                spec.image,
                name=spec.name,
                labels={**spec.labels, **self._own_label},
                environment=dict(spec.variables),
                healthcheck={"test": ["NONE"]},  # the supervisor asks, and acts on what it hears
                host_config=hardened(api, **_limits(spec)),
            )
            api.start(made["Id"])
        except APIError as error:
            self.remove(spec.name)
            raise WorkFailed("container-refused", f"the engine does not run it: {error.explanation or error}") from None
        return self.by_name(fresh=True)[spec.name]

    def pid(self, container: str) -> int:
        """The process that runs in it, as the host counts; 0 when it has ended."""
        return int(self._api().inspect_container(container)["State"]["Pid"])

    def how_ended(self, container: str) -> Ended:
        """How it ended; nothing is known of one that is not there any more."""
        try:
            state = self._api().inspect_container(container)["State"]
        except NotFound:
            return Ended(None, is_out_of_memory=False)
        code = int(state["ExitCode"])
        return Ended(SIGNALLED - code if code > SIGNALLED else code, bool(state["OOMKilled"]))

    def stop(self, name: str, grace_s: float) -> None:
        """Ask it to end, and end it after the grace; it may not be there."""
        with contextlib.suppress(NotFound):
            self._api().stop(name, timeout=int(grace_s))

    def remove(self, name: str) -> None:
        """Remove it, running or not; it may not be there."""
        with contextlib.suppress(NotFound):
            self._api().remove_container(name, force=True, v=True)
        self._listed_at = float("-inf")

    def logs(self, container: str, since: float) -> Iterator[bytes]:
        """What it prints, from then on and until it ends: pieces that begin with a time, see `docker logs -t`."""
        api = _connect()
        try:
            yield from api.logs(container, stream=True, follow=True, timestamps=True, since=since or None)
        finally:
            api.close_streams()
            api.close()

    def ensure_network(self, name: str) -> None:
        """A network without a way out, and without one from container to container."""
        api = self._api()
        try:
            api.inspect_network(name)
        except NotFound:
            with contextlib.suppress(APIError):  # somebody else makes it just now
                api.create_network(
                    name,
                    driver="bridge",
                    internal=True,
                    check_duplicate=True,
                    options={"com.docker.network.bridge.enable_icc": "false"},
                )

    def close(self) -> None:
        """Close the connections; they are made again when they are needed."""
        while self._clients:
            self._clients.popitem()[1].close()

    def _api(self, timeout_s: float = ANSWER_TIMEOUT_S) -> StreamingApi:
        if timeout_s not in self._clients:
            self._clients[timeout_s] = _connect(timeout_s)
        return self._clients[timeout_s]


def _connect(timeout_s: float = ANSWER_TIMEOUT_S) -> StreamingApi:
    """A client. DockerException when nobody listens: asked first, as the SDK leaves a refused socket open."""
    settings = kwargs_from_env()
    address = settings.get("base_url") or DEFAULT_UNIX_SOCKET
    if address.startswith(UNIX):
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(timeout_s)
                probe.connect(re.sub(r"^http\+unix://|^unix://", "", address))
        except OSError as error:
            raise DockerException(f"{address}: {error.strerror or error}") from None
    return StreamingApi(version="auto", timeout=timeout_s, **settings)


def _limits(spec: ContainerSpec) -> dict[str, Any]:
    """No host paths but those to read, no root to write to, and no more than its share."""
    return {
        "network_mode": spec.network,
        "read_only": True,
        "mounts": [
            Mount(target=inside, source=str(folder), type="bind", read_only=True)
            for folder, inside in spec.read_only.items()
        ],
        "tmpfs": dict(spec.writable),
        "cpu_shares": max(2, int(spec.cpu_share * 1024)),
        "nano_cpus": int(spec.most_cpu * 1e9),
        "mem_limit": spec.most_memory_bytes,
        "memswap_limit": spec.most_memory_bytes,
        "restart_policy": {"Name": "no"},
        "log_config": LogConfig(type="json-file", config=LOG_LIMITS),
    }


def _container(found: Mapping[str, Any]) -> Container:
    networks: Sequence[Mapping[str, Any]] = list(found["NetworkSettings"]["Networks"].values())
    return Container(
        id=found["Id"],
        labels=found["Labels"] or {},
        is_running=found["State"] in {"running", "paused", "restarting"},
        address=next((str(each["IPAddress"]) for each in networks if each.get("IPAddress")), ""),
    )
