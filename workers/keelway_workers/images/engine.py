"""The container engine of this node, through its API: every call can be cancelled, every failure says what to do."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.utils import kwargs_from_env, parse_repository_tag

from keelway.contracts.images import RegistryCredentials
from keelway_workers.containers import StreamingApi, hardened
from keelway_workers.failures import WorkFailed

ANSWER_TIMEOUT_S = 120
CHECK_EVERY_S = 0.2
WORK = "org.keelway.work"  # the label of containers in which a program of ours runs
ABANDONED_S = 4 * 3600
LOG_TAIL = 50
NO_SPACE = ("no space left on device", "disk quota exceeded")
NOT_THERE = ("manifest unknown", "not found", "repository does not exist", "name unknown")
REFUSED = ("denied", "unauthorized", "authentication required", "forbidden", "no basic auth credentials")
OWN_STORES = {"overlay2", "btrfs", "zfs", "vfs", "fuse-overlayfs", "aufs", "devicemapper"}
SETTLED = re.compile(
    r"^(Waiting|Downloading|Extracting|Loading layer|Verifying Checksum|Preparing|Pushing|Download complete)"
)

Check = Callable[[], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class ImageFacts:
    """An image that the engine has. `id` is the digest of its configuration: the same on every engine."""

    id: str
    size_bytes: int
    digests: tuple[str, ...]
    layers: tuple[str, ...]
    created: str
    architecture: str
    os: str
    config: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Ran:
    """What came of a program in a container: its exit code and the last of what it printed."""

    exit_code: int
    output: str


class Engine:
    """One engine, for one piece of work: `check` raises when that is not wanted any more."""

    def __init__(self, check: Check) -> None:
        self._check = check
        try:
            self._api = StreamingApi(version="auto", timeout=ANSWER_TIMEOUT_S, **kwargs_from_env())
        except (DockerException, requests.RequestException) as error:
            raise WorkFailed(
                "engine-not-available",
                f"no container engine answers on this node: start one or set DOCKER_HOST ({_first_line(error)})",
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def image(self, reference: str) -> ImageFacts | None:
        """An image by its name or id, if the engine has it."""
        with self._translated(f"looking for {reference}"):
            try:
                found = self._api.inspect_image(reference)
            except ImageNotFound:
                return None
        return ImageFacts(
            id=found["Id"],
            size_bytes=found["Size"],
            digests=tuple(found.get("RepoDigests") or ()),
            layers=tuple(found["RootFS"].get("Layers") or ()),
            created=found["Created"],
            architecture=found["Architecture"],
            os=found["Os"],
            config=found.get("Config") or {},
        )

    def pull(self, reference: str, say: Say, credentials: RegistryCredentials | None = None) -> ImageFacts:
        """Have an image of a registry. WorkFailed says whether it, the registry or the permission is missing."""
        repository, tag = parse_repository_tag(reference)
        say(f"pulling {reference}")
        with self._translated(f"pulling {reference}", self._registry_failure(reference)):
            stream = self._api.pull(
                repository, tag=tag or "latest", stream=True, decode=True, auth_config=_auth(credentials)
            )
            self._follow(stream, say)
        found = self.image(reference)
        if found is None:
            raise WorkFailed("image-not-found", f"{reference} was pulled, but the engine does not have it")
        return found

    def push(self, reference: str, say: Say, credentials: RegistryCredentials | None = None) -> str:
        """Send an image to the registry that its name says; the digest it has there."""
        repository, tag = parse_repository_tag(reference)
        say(f"pushing {reference}")
        digests: list[str] = []
        with self._translated(f"pushing {reference}", self._registry_failure(reference)):
            stream = self._api.push(repository, tag=tag, stream=True, decode=True, auth_config=_auth(credentials))
            self._follow(stream, say, lambda aux: digests.append(aux.get("Digest", "")))
        return next(filter(None, digests), "")

    def tag(self, image: str, reference: str) -> None:
        """Give an image a name, taking it from the one that had it."""
        repository, tag = parse_repository_tag(reference)
        with self._translated(f"naming {reference}"):
            self._api.tag(image, repository, tag, force=True)

    def remove(self, reference: str) -> None:
        """Take a name away, and the image with its last one; one that is not there, or in use, stays as it is."""
        with self._translated(f"removing {reference}"), contextlib.suppress(APIError):
            self._api.remove_image(reference, noprune=False)

    def build(
        self,
        context: Path,
        *,
        tag: str,
        say: Say,
        dockerfile: str = "Dockerfile",
        network: str = "none",
        arguments: dict[str, str] | None = None,
        credentials: RegistryCredentials | None = None,
    ) -> ImageFacts:
        """Build a tar with a Dockerfile in it. WorkFailed with the end of its log when a step of it fails."""
        tail: list[str] = []

        def tell(line: str) -> None:
            tail.append(line)
            say(line)

        def failed(message: str) -> WorkFailed:
            return WorkFailed("image-build-failed", f"the image cannot be built: {message}", log_tail=tail[-LOG_TAIL:])

        with context.open("rb") as file, self._translated("building the image", failed):
            self._know(credentials)
            stream = self._api.build(
                fileobj=_Context(file, self._check),  # type: ignore[arg-type]
                custom_context=True,
                tag=tag,
                dockerfile=dockerfile,
                rm=True,
                forcerm=True,
                pull=False,
                network_mode=network,
                buildargs=arguments,
                decode=True,
                timeout=None,  # type: ignore[arg-type]
            )
            self._follow(stream, tell)
        found = self.image(tag)
        if found is None:
            raise WorkFailed("image-build-failed", f"the engine has built {tag} and does not have it", log_tail=tail)
        return found

    def run(
        self,
        image: str,
        command: list[str],
        *,
        files: tuple[Path, str] | None = None,
        take: tuple[str, Path] | None = None,
    ) -> Ran | None:
        """Run a program of an image without a network, after putting a tar into a folder; None when it has none.

        `files` is (a tar, the folder it is unpacked in), `take` (a folder, the tar to write of it when all went well).
        """
        with self._translated(f"running {command[0]} in {image}"):
            self._sweep_containers()
            container = self._api.create_container(
                image,
                command=command[1:],
                entrypoint=[command[0]],
                labels={WORK: ""},
                user="0",
                network_disabled=True,
                working_dir="/",
                environment={"PYTHONDONTWRITEBYTECODE": "1"},
                host_config=hardened(self._api, network_mode="none"),
            )["Id"]
            try:
                return self._run(container, files, take)
            finally:
                self._remove_container(container)

    def _run(self, container: str, files: tuple[Path, str] | None, take: tuple[str, Path] | None) -> Ran | None:
        if files is not None:
            with files[0].open("rb") as tar:
                self._api.put_archive(container, files[1], _Context(tar, self._check))  # type: ignore[arg-type]
        try:
            self._api.start(container)
        except APIError as error:
            if "executable file not found" in str(error) or "no such file or directory" in str(error):
                return None
            raise
        while (state := self._api.inspect_container(container)["State"])["Running"]:
            self._check()
            time.sleep(0.05)
        output = self._api.logs(container, tail=LOG_TAIL).decode(errors="replace")
        if take is not None and state["ExitCode"] == 0:
            chunks, _ = self._api.get_archive(container, take[0])
            _write(take[1], chunks)
        return Ran(state["ExitCode"], output)

    @contextlib.contextmanager
    def save(self, image: str) -> Iterator[tarfile.TarFile]:
        """The image as the engine writes it, to be read once, in order."""
        with self._translated(f"saving {image}"), self._cut_when_stopped():
            chunks = self._api.get_image(image, chunk_size=1 << 20)
            with tarfile.open(fileobj=_Chunks(chunks), mode="r|", bufsize=1 << 20) as archive:
                yield archive

    def load(self, archive: Iterator[bytes], say: Say) -> None:
        """Have an image that is sent as the tar that an engine saves; layers that this engine has may be left out.

        Left out only where `loads_onto_layers`.
        """
        with self._translated("loading the image"):
            stream = self._api.load_image(archive, quiet=False)  # type: ignore[arg-type]
            self._follow(stream, say)

    def loads_onto_layers(self) -> bool:
        """Whether images may be loaded without the layers that this engine has."""
        with self._translated("asking for its storage"):
            return has_own_store(self._api.info())

    def _sweep_containers(self) -> None:
        """Remove what killed workers left: none of our programs runs for long."""
        for found in self._api.containers(all=True, filters={"label": WORK}):
            if found["Created"] < time.time() - ABANDONED_S:
                self._remove_container(found["Id"])

    def _remove_container(self, container: str) -> None:
        with contextlib.suppress(NotFound):
            self._api.remove_container(container, force=True, v=True)

    def _know(self, credentials: RegistryCredentials | None) -> None:
        """Have a build's FROM pull with these; the engine is told them and keeps them nowhere."""
        configs = self._api._auth_configs  # type: ignore[attr-defined]
        configs["auths"] = {} if credentials is None else {credentials.address: _auth(credentials)}

    def _follow(self, stream: Iterator[Any], say: Say, aux: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Say what a stream says, without progress bars. APIError for a failure in its midst."""
        with self._cut_when_stopped():
            for line in _lines(stream, aux):
                say(line)

    @contextlib.contextmanager
    def _cut_when_stopped(self) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(CHECK_EVERY_S):
                try:
                    self._check()
                except Exception:  # noqa: BLE001 - whatever it says, the work itself hears it next
                    self._api.cut()
                    return

        watcher = threading.Thread(target=watch, name="engine-watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self._api.close_streams()
            self._check()

    @contextlib.contextmanager
    def _translated(self, what: str, failed: Callable[[str], WorkFailed] | None = None) -> Iterator[None]:
        """Errors of the engine as what the owner of an operation can act on."""
        try:
            yield
        except APIError as error:
            raise _failure(_message(error), what, failed) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
            self._check()  # we cut the connection ourselves
            raise WorkFailed(
                "engine-lost", f"the container engine went away while {what} ({_first_line(error)})"
            ) from None
        except DockerException as error:
            raise _failure(str(error), what, failed) from None

    @staticmethod
    def _registry_failure(reference: str) -> Callable[[str], WorkFailed]:
        def failed(message: str) -> WorkFailed:
            lower = message.lower()
            if any(sign in lower for sign in REFUSED):
                return WorkFailed("registry-refused", f"the registry does not give {reference}: {message}")
            if any(sign in lower for sign in NOT_THERE):
                return WorkFailed("image-not-found", f"there is no image {reference}: {message}")
            return WorkFailed("registry-not-reachable", f"{reference} cannot be had from its registry: {message}")

        return failed


def has_own_store(info: dict[str, Any]) -> bool:
    """Whether layers lie in one of Docker's own stores, by what an engine says of itself.

    Those put images together by their layers' digests; containerd's, and other engines, want to be sent every layer.
    """
    kinds = [name for name, *_ in info.get("DriverStatus") or ()]
    return info.get("Driver") in OWN_STORES and "driver-type" not in kinds


def _failure(message: str, what: str, failed: Callable[[str], WorkFailed] | None) -> WorkFailed:
    if any(sign in message.lower() for sign in NO_SPACE):
        return WorkFailed("disk-full", f"the container engine has no disk space left: {message}")
    return failed(message) if failed else WorkFailed("engine-failed", f"{what}: {message}")


def _message(error: APIError) -> str:
    return (error.explanation or str(error)).strip()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _auth(credentials: RegistryCredentials | None) -> dict[str, str]:
    """What the SDK sends; an empty one keeps it from looking for this user's own logins."""
    if credentials is None:
        return {"username": "", "password": ""}
    return {
        "username": credentials.username,
        "password": credentials.password,
        "serveraddress": credentials.address,
    }


def _lines(stream: Iterator[Any], aux: Callable[[dict[str, Any]], None] | None) -> Iterator[str]:
    """What the engine says as whole lines. APIError when it says that it failed."""
    rest = ""
    for event in stream:
        if "error" in event:
            if rest:
                yield rest
            raise APIError(event["error"], explanation=event["error"])
        if aux is not None and isinstance(event.get("aux"), dict):
            aux(event["aux"])
        *whole, rest = (rest + event.get("stream", "")).split("\n")
        yield from (line.rstrip("\r") for line in whole if line.strip())
        status = event.get("status", "")
        if status and not SETTLED.match(status):
            yield f"{event['id']}: {status}" if event.get("id") else status
    if rest.strip():
        yield rest


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)


class _Context(io.RawIOBase):
    """A file that is sent to the engine, and stops being sent when the work is not wanted any more."""

    def __init__(self, file: io.BufferedReader, check: Check) -> None:
        self._file, self._check = file, check
        self.len = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self.len

    def read(self, size: int = -1) -> bytes:
        self._check()
        return self._file.read(1 << 20 if size < 0 else max(size, 1 << 20))

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
        while chunk := self.read():
            yield chunk


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a file that is read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size or size < 0:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        whole = b"".join(parts)
        taken, self._rest = (whole, b"") if size < 0 else (whole[:size], whole[size:])
        return taken
