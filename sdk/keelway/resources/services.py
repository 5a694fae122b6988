"""Services: create, wait, score, read logs and collected data, delete."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import httpx2

from keelway.contracts.base import SERVICE_NAME
from keelway.contracts.collected import CollectedDeletion, CollectedFile
from keelway.contracts.files import checked_path
from keelway.contracts.models import ModelVersion
from keelway.contracts.operations import Operation
from keelway.contracts.problems import PROBLEMS
from keelway.contracts.services import (
    DeploymentConfig,
    InferenceConfig,
    Rollback,
    Service,
    ServiceCreate,
    ServiceUpdate,
)
from keelway.downloads import Wanted, download_files
from keelway.errors import (
    AlreadyExists,
    DamagedDownload,
    InvalidInput,
    ScoringError,
    Unreachable,
    raise_unless_succeeded,
)
from keelway.inference import InferenceSource
from keelway.resources.base import SLOW_ANSWER_S, Resource, checked, dumped, parsed, segment
from keelway.resources.inference import make_config, reference
from keelway.resources.operations import OnChange
from keelway.staging import check_below
from keelway.streams import follow_text
from keelway.uploads import Progress, Tally

Payload = dict | list | str | bytes


class Services(Resource):
    """`{w}/services`."""

    def create(self, service: ServiceCreate) -> ServiceHandle:
        """Have a service brought up; the handle waits for it."""
        response = self._client.request("POST", self._path(), json=dumped(service))
        made = parsed(Service, response)
        return ServiceHandle(self, made, _operation_id(response) or made.operation)

    def deploy(
        self,
        name: str,
        models: Sequence[ModelVersion | str],
        inference: InferenceConfig | InferenceSource,
        deployment: DeploymentConfig | None = None,
        *,
        description: str = "",
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        overwrite: bool = False,
    ) -> ServiceHandle:
        """Bring up a service. From an InferenceSource a snapshot and the environment `<name>-env` are made first.

        With `overwrite` a service of that name is updated: it goes on serving until this one answers. InvalidInput or
        AlreadyExists when the name cannot be had; nothing has been made then.
        """
        if isinstance(inference, InferenceSource):
            inference.check()
        exists = self.check_name(name, may_exist=overwrite)
        if exists:
            return self.update(
                name,
                models=models,
                inference=inference,
                deployment=deployment or DeploymentConfig(),
                description=description or None,
                tags=tags,
                properties=properties,
            )
        if isinstance(inference, InferenceSource):
            inference = make_config(self._client, name, inference)
        body = checked(
            ServiceCreate,
            name=name,
            models=_references(models),
            inference_config=inference,
            deployment_config=deployment or DeploymentConfig(),
            description=description,
            tags=tags or {},
            properties=properties or {},
        )
        return self.create(body)

    def update(
        self,
        name: str,
        *,
        models: Sequence[ModelVersion | str] | None = None,
        inference: InferenceConfig | InferenceSource | None = None,
        deployment: DeploymentConfig | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        etag: str | None = None,
    ) -> ServiceHandle:
        """Change a service; what is left out stays. The old revision serves until the new one answers.

        Tags replace those before, properties only grow. From an InferenceSource a snapshot and the environment
        `<name>-env` are made first. The handle waits for nothing when no new revision was needed. With `etag`,
        PreconditionFailed when somebody changed it meanwhile.
        """
        if isinstance(inference, InferenceSource):
            inference = make_config(self._client, name, inference)
        given = {
            "models": None if models is None else _references(models),
            "inference_config": inference,
            "deployment_config": deployment,
            "description": description,
            "tags": tags,
            "properties": properties,
        }
        body = checked(ServiceUpdate, **{key: value for key, value in given.items() if value is not None})
        headers = {} if etag is None else {"If-Match": etag}
        response = self._client.request("PATCH", self._path(name), json=dumped(body), headers=headers)
        return ServiceHandle(self, parsed(Service, response), _operation_id(response))

    def rollback(self, name: str, revision: str | None = None) -> ServiceHandle:
        """Have it run once more what it ran before, or what this revision of it ran."""
        body = checked(Rollback, revision=revision)
        response = self._client.request("POST", f"{self._path(name)}/rollback", json=dumped(body))
        return ServiceHandle(self, parsed(Service, response), _operation_id(response))

    def restart(self, name: str) -> ServiceHandle:
        """Have it run what it runs in new replicas, which take over when they answer."""
        response = self._client.request("POST", f"{self._path(name)}/restart")
        return ServiceHandle(self, parsed(Service, response), _operation_id(response))

    def check_name(self, name: str, *, may_exist: bool = False) -> bool:
        """Whether there is a service of that name.

        InvalidInput when none may be called so, AlreadyExists when one is and may not be.
        """
        if not (3 <= len(name) <= 32 and re.match(SERVICE_NAME, name)):
            raise InvalidInput(
                f"{name!r} is no name for a service: it needs 3 to 32 lower-case letters, digits and '-', "
                "begins with a letter and does not end with '-'"
            )
        exists = any(found.name == name for found in self.list(name=name))
        if exists and not may_exist:
            kind = PROBLEMS["already-exists"]
            detail = f"service {name} exists; overwrite it, delete it first, or take another name"
            raise AlreadyExists(status=kind.status, type="already-exists", title=kind.title, detail=detail)
        return exists

    def get(self, name: str) -> Service:
        """A service as it is now."""
        return self._get(Service, self._path(name))

    def list(self, *, name: str | None = None) -> Iterator[Service]:
        """The workspace's services; with `name` only that one, if it is there."""
        return self._pages(Service, self._path(), {"name": name})

    def logs(
        self, name: str, tail: int | None = None, follow: bool = False, replica: str | None = None
    ) -> Iterator[str]:
        """What its replicas printed, in pieces: the last `tail` lines, and with `follow` all that comes."""
        params = {"tail": tail, "follow": "true" if follow else None, "replica": replica}
        return follow_text(self._client, f"{self._path(name)}/logs", params)

    def collected(
        self, name: str, *, day: date | None = None, designation: str | None = None
    ) -> Iterator[CollectedFile]:
        """Files of rows that its replicas collected, by path: all, of a day (UTC), or of a designation."""
        params = {"day": day.isoformat() if day else None, "designation": designation}
        return self._pages(CollectedFile, f"{self._path(name)}/collected", params)

    def download_collected(
        self,
        name: str,
        target_dir: str | Path,
        *,
        day: date | None = None,
        designation: str | None = None,
        progress: Progress | None = None,
    ) -> list[Path]:
        """Put collected files, verified, below `target_dir` at their paths, and say where they are.

        What is there and right already is not fetched again: repeated, it brings what is new.
        """
        files, target = list(self.collected(name, day=day, designation=designation)), Path(target_dir)
        target.mkdir(parents=True, exist_ok=True)
        wanted = [self._wanted(name, file, target) for file in files]
        tally = Tally("download", sum(file.size_bytes for file in files), progress)
        with tempfile.TemporaryDirectory(dir=target, prefix=".keelway-") as parts:
            download_files(self._client, wanted, Path(parts), tally)
        return [one.to for one in wanted]

    def _wanted(self, name: str, file: CollectedFile, target: Path) -> Wanted:
        try:
            path = Path(checked_path(file.path))
        except ValueError as error:
            raise DamagedDownload(repr(file.path), f"the server sent a path that is not safe: {error}") from error
        check_below(target, path)
        url = "/".join([self._path(name), "collected", *map(segment, path.parts)])
        return Wanted(url, target / path, file.sha256, file.size_bytes)

    def delete_collected(self, name: str, *, until: date | None = None) -> CollectedDeletion:
        """Delete what its replicas collected: all, or that of days (UTC) up to `until`."""
        params = {"until": until.isoformat() if until else None}
        files = size_bytes = 0
        while True:
            path = f"{self._path(name)}/collected"
            done = parsed(
                CollectedDeletion, self._client.request("DELETE", path, params=params, timeout_s=SLOW_ANSWER_S)
            )
            files, size_bytes = files + done.deleted_files, size_bytes + done.deleted_bytes
            if done.is_complete:
                return done.model_copy(update={"deleted_files": files, "deleted_bytes": size_bytes})

    def delete(self, name: str) -> Operation:
        """Have it taken down."""
        response = self._client.request("DELETE", self._path(name))
        if operation_id := _operation_id(response):
            return self._client.operations.get(operation_id)
        return parsed(Operation, response)

    def run(self, name: str, payload: Payload) -> Any:
        """A service's answer to a payload; JSON comes back parsed. ScoringError carries its error."""
        return self.score(self.get(name).scoring_uri, payload)

    def score(self, scoring_uri: str, payload: Payload) -> Any:
        """The answer of a scoring address. Never repeated: what a script does with a request is not ours to know."""
        content = payload if isinstance(payload, str | bytes) else json.dumps(payload)
        kind = "application/octet-stream" if isinstance(payload, bytes) else "application/json"
        try:
            # Without our token: the other end is a user's script.
            response = self._client.transport.http.post(
                scoring_uri, content=content, headers={"Content-Type": kind}, timeout=self._client.timeout_s
            )
        except httpx2.TransportError as error:
            raise Unreachable(f"POST {scoring_uri}: {error or type(error).__name__}") from error
        if not response.is_success:
            raise ScoringError(response.status_code, response.text, request_id=response.headers.get("x-request-id"))
        return _answer(response)

    def _path(self, name: str | None = None) -> str:
        path = f"{self._workspace}/services"
        return path if name is None else f"{path}/{segment(name)}"


class ServiceHandle:
    """A service that is being brought up. Has all attributes of `Service`, as they were when it was last read."""

    def __init__(self, services: Services, service: Service, operation_id: str | None) -> None:
        self._services = services
        self.service = service
        self.operation_id = operation_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self.service, name)

    def __repr__(self) -> str:
        return f"<ServiceHandle {self.service.name}: {self.service.state}>"

    def wait(self, timeout_s: float | None = None, progress: OnChange | None = None) -> Service:
        """The service once it serves; `progress` gets every new state of the operation.

        Raises OperationFailed, OperationCancelled, or WaitTimeout after `timeout_s`.
        """
        if self.operation_id:
            operation = self._services._client.operations.wait(self.operation_id, timeout_s, progress)
            raise_unless_succeeded(operation)
        return self.refresh()

    def refresh(self) -> Service:
        """The service as it is now."""
        self.service = self._services.get(self.service.name)
        return self.service

    def run(self, payload: Payload) -> Any:
        """Its answer to a payload."""
        return self._services.score(self.service.scoring_uri, payload)


def _references(models: Sequence[ModelVersion | str]) -> list[str]:
    return [model.id if isinstance(model, ModelVersion) else reference(model) for model in models]


def _operation_id(response: httpx2.Response) -> str | None:
    location = response.headers.get("location", "")
    return location.rstrip("/").rsplit("/", 1)[-1] if "/operations/" in location else None


def _answer(response: httpx2.Response) -> Any:
    kind = response.headers.get("content-type", "")
    if "json" in kind:
        return response.json()
    return response.text if kind.startswith("text/") else response.content
