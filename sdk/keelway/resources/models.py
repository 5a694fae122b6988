"""Models and their versions."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypedDict, Unpack

from keelway.contracts.files import FileEntry, FileLinks, checked_path
from keelway.contracts.models import (
    Alias,
    AliasChange,
    AliasSet,
    Dataset,
    Model,
    ModelVersion,
    ModelVersionCreate,
    ModelVersionUpdate,
    ModelVersionUpload,
    ResourceRequirements,
    Verification,
)
from keelway.contracts.operations import Operation
from keelway.contracts.signatures import BUNDLE_MEDIA_TYPE
from keelway.downloads import Wanted, download_archive, download_files
from keelway.errors import DamagedDownload, InvalidInput, UntrustedSignature
from keelway.resources.base import SLOW_ANSWER_S, Resource, checked, parsed, segment
from keelway.staging import check_below, staging
from keelway.uploads import Progress, Tally, manifest, model_files, send_missing

SafetyFilter = Literal["inert", "executable", "not-inspected"]
OrderBy = Literal["created_at", "name", "version"]
Order = Literal["asc", "desc"]


class Changes(TypedDict, total=False):
    """What `update` may change."""

    description: str
    tags: dict[str, str]
    properties: dict[str, str]
    resource_requirements: ResourceRequirements | None
    datasets: list[Dataset]
    sample_input: Any
    sample_output: Any


class Models(Resource):
    """`{w}/models`."""

    def register(
        self,
        name: str,
        path: str | Path,
        *,
        child_paths: Sequence[str] = (),
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str = "",
        framework: str | None = None,
        framework_version: str | None = None,
        resource_requirements: ResourceRequirements | None = None,
        datasets: Sequence[Dataset] = (),
        sample_input: Any = None,
        sample_output: Any = None,
        requires_approval: bool = False,
        progress: Progress | None = None,
    ) -> ModelVersion:
        """A new version with the bytes of a file, or of a folder (or of some `child_paths` of it).

        What the server has already is not sent again, so a registration that broke off is finished by repeating it.
        """
        files = model_files(Path(path), child_paths)
        body = checked(
            ModelVersionCreate,
            files=manifest(files, progress),
            description=description,
            tags=tags or {},
            properties=properties or {},
            framework=framework,
            framework_version=framework_version,
            resource_requirements=resource_requirements,
            datasets=list(datasets),
            sample_input=sample_input,
            sample_output=sample_output,
            requires_approval=requires_approval,
        )
        upload = self._send(ModelVersionUpload, "POST", self._path(name, "versions"), body)
        send_missing(self._client, upload.missing, files, progress)
        return self._send(
            ModelVersion, "POST", self._path(name, "versions", upload.version, "commit"), timeout_s=SLOW_ANSWER_S
        )

    def get(self, name: str, version: str | int = "latest") -> ModelVersion:
        """A version: a number, `latest`, or an alias. The name may carry it: `ridge:3`."""
        name, version = split_reference(name, version)
        return self._get(ModelVersion, self._path(name, "versions", version))

    def model(self, name: str) -> Model:
        """The model itself, with its latest ready version if it has one."""
        return self._get(Model, self._path(name))

    def list(
        self,
        *,
        name: str | None = None,
        tags: Sequence[str] = (),
        properties: Sequence[str] = (),
        framework: str | None = None,
        run: str | None = None,
        dataset: str | None = None,
        safety: SafetyFilter | None = None,
        order_by: OrderBy | None = None,
        order: Order | None = None,
    ) -> Iterator[Model]:
        """Models, newest first, each with its latest ready version; the filters are about that version.

        Ordered by name they begin with the first, else with the last, unless `order` says otherwise.

        `tags` and `properties`: `key` for one that is there, `key=value` for one of that value; all must hold. `run`:
        `experiment/run`.
        """
        said = {"name": name, "tag": list(tags), "property": list(properties), "framework": framework}
        params = {**said, "run": run, "dataset": dataset, "safety": safety, "order_by": order_by, "order": order}
        return self._pages(Model, f"{self._workspace}/models", params)

    def find_versions(
        self,
        *,
        name: str | None = None,
        tags: Sequence[str] = (),
        properties: Sequence[str] = (),
        framework: str | None = None,
        run: str | None = None,
        dataset: str | None = None,
        safety: SafetyFilter | None = None,
        latest_only: bool = False,
        order_by: OrderBy | None = None,
        order: Order | None = None,
    ) -> Iterator[ModelVersion]:
        """Versions of all models, newest first, without files and samples; filters and orders as in `list`.

        `latest_only`: of each model only the latest ready version.
        """
        said = {"name": name, "tag": list(tags), "property": list(properties), "framework": framework}
        params = {
            **said,
            "run": run,
            "dataset": dataset,
            "safety": safety,
            "latest_only": latest_only or None,
            "order_by": order_by,
            "order": order,
        }
        return self._pages(ModelVersion, f"{self._workspace}/model-versions", params)

    def versions(self, name: str) -> Iterator[ModelVersion]:
        """All versions of a model, newest first, without files and samples."""
        return self._pages(ModelVersion, self._path(name, "versions"))

    def files(self, name: str, version: str | int = "latest") -> Iterator[FileEntry]:
        """The files of a version, with sizes and digests."""
        name, version = split_reference(name, version)
        return self._pages(FileEntry, self._path(name, "versions", version, "files"))

    def update(
        self, name: str, version: str | int = "latest", *, etag: str | None = None, **changes: Unpack[Changes]
    ) -> ModelVersion:
        """Say something else of a version; what is not given stays. With `etag` only while it is as it was seen.

        Raises PreconditionFailed, and Immutable for a property that is written already.
        """
        name, version = split_reference(name, version)
        body = checked(ModelVersionUpdate, **changes).model_dump(mode="json", exclude_unset=True)
        headers = {"If-Match": etag} if etag else None
        path = self._path(name, "versions", version)
        return parsed(ModelVersion, self._client.request("PATCH", path, json=body, headers=headers))

    def approve(self, name: str, version: str | int) -> ModelVersion:
        """Let a version be deployed that requires approval."""
        name, version = split_reference(name, version)
        return self._send(ModelVersion, "POST", self._path(name, "versions", version, "approve"))

    def inspect(self, name: str, version: str | int = "latest") -> Operation:
        """Have a version's files looked at, also when they were before; its `safety` says what was found."""
        name, version = split_reference(name, version)
        return self._send(Operation, "POST", self._path(name, "versions", version, "inspect"))

    def delete(self, name: str, version: str | int | None = None) -> None:
        """Delete a version, or without one the model with all its versions. Raises InUse naming who uses it."""
        bare, colon, given = name.partition(":")
        wanted = given if colon else version
        if wanted is not None and not str(wanted).strip("0"):  # an empty variable must not delete everything
            raise InvalidInput(f"{name!r} names no version; leave it and the colon out to delete the whole model")
        self._client.request("DELETE", self._path(bare) if wanted is None else self._path(bare, "versions", wanted))

    def set_alias(self, name: str, alias: str, version: int | Literal["latest"]) -> Alias:
        """Have an alias name a version from now on."""
        body = checked(AliasSet, version=version)
        return self._send(Alias, "PUT", self._path(name, "aliases", alias), body)

    def remove_alias(self, name: str, alias: str) -> None:
        """Take an alias away; its history stays."""
        self._client.request("DELETE", self._path(name, "aliases", alias))

    def alias(self, name: str, alias: str, *, at: datetime | None = None) -> Alias:
        """Which version an alias names, now or `at` some time (with its zone) in the past."""
        moment = at.isoformat() if at else None
        return self._get(Alias, self._path(name, "aliases", alias), {"at": moment})

    def aliases(self, name: str) -> Iterator[Alias]:
        """All aliases of a model."""
        return self._pages(Alias, self._path(name, "aliases"))

    def alias_history(self, name: str, alias: str) -> Iterator[AliasChange]:
        """Every change of an alias, newest first."""
        return self._pages(AliasChange, self._path(name, "aliases", alias, "history"))

    def download(
        self,
        name: str,
        version: str | int,
        target_dir: str | Path,
        *,
        file: str | None = None,
        exist_ok: bool = False,
        public_key: bytes | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Put a version's verified files below `target_dir`; the path of its one file or folder there.

        It shows there once all of it is right. What an attempt that broke off had fetched is not fetched again.
        With a public key, in PEM, only what that key signed: UntrustedSignature before a byte is fetched.
        `file`: only that one, by its path in the version; it goes by the last part of it.
        """
        found = self._trusted(name, version, public_key)
        target = Path(target_dir)
        chosen = {_safe_path(target, one): one for one in found.files}
        if not chosen:
            raise DamagedDownload(found.id, "the server lists no files for it")
        if len({path.parts[0] for path in chosen}) > 1:
            raise DamagedDownload(found.id, "the server lists more than one file or folder for it")
        if file is not None:
            chosen = {Path(Path(one.path).name): one for one in found.files if one.path == file}
            if not chosen:
                raise InvalidInput(f"{found.id} has no file {file!r}; its first one is {found.files[0].path!r}")
        top = target / next(iter(chosen)).parts[0]
        if top.exists() and not exist_ok:
            raise InvalidInput(f"{top} exists already")
        self._fetch(found, chosen, target, exist_ok=exist_ok, progress=progress)
        return top

    def _fetch(
        self,
        version: ModelVersion,
        chosen: dict[Path, FileEntry],
        target: Path,
        *,
        exist_ok: bool,
        progress: Progress | None,
    ) -> None:
        tally = Tally("download", sum(file.size_bytes for file in chosen.values()), progress)
        # Not what the server says the digest of all is: only these files may be found there.
        listed = "".join(f"{path.as_posix()}\0{file.sha256}\0" for path, file in chosen.items())
        key = hashlib.sha256(listed.encode()).hexdigest()[:16]
        with staging(target, key, chosen) as stage:
            wanted = [self._wanted(version, file, stage.files / path) for path, file in chosen.items()]
            download_files(self._client, wanted, stage.parts, tally)
            stage.publish(exist_ok=exist_ok)

    def download_archive(
        self,
        name: str,
        version: str | int,
        to: str | Path,
        *,
        exist_ok: bool = False,
        public_key: bytes | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Put all files of a version into one tar file at `to`, once every one in it is verified; its path.

        It comes in one stream: one that broke off begins anew. A public key as in `download`.
        """
        found = self._trusted(name, version, public_key)
        path = Path(to)
        if path.exists() and not exist_ok:
            raise InvalidInput(f"{path} exists already")
        url = self._path(found.name, "versions", found.version, "archive")
        download_archive(self._client, url, path, found.files, Tally("download", found.size_bytes, progress))
        return path

    def _trusted(self, name: str, version: str | int, public_key: bytes | None) -> ModelVersion:
        found = self.get(name, version)
        if public_key is not None:
            self._check_signature(found, public_key)
        return found

    def _wanted(self, version: ModelVersion, file: FileEntry, to: Path) -> Wanted:
        # By its number: `latest` may be another version by now.
        of = (version.name, "versions", version.version)
        url, links_url = (self._path(*of, kind, *file.path.split("/")) for kind in ("files", "links"))
        return Wanted(url, to, file.sha256, file.size_bytes, links_url)

    def links(self, name: str, version: str | int, path: str, *, offset: int = 0) -> FileLinks:
        """Signed addresses of a file's parts in the object store, from `offset` on; of many parts only the first.

        None when the server hands out none. Whoever has one may read that part until it expires, without a token.
        """
        name, version = split_reference(name, version)
        return self._get(
            FileLinks, self._path(name, "versions", version, "links", *path.split("/")), {"offset": offset}
        )

    def sign(
        self, name: str, version: str | int = "latest", *, private_key: bytes, password: bytes | None = None
    ) -> ModelVersion:
        """Sign a version's files with a private key in PEM, and keep the signature with it, instead of one it has.

        Signed are the digests that the server lists: verify the version, or download it, first if you doubt the server.
        Raises WrongState while the version is not ready, InvalidInput for a key that cannot be used.
        """
        found = self.get(name, version)
        top = found.files[0].path.split("/")[0] if found.files else ""
        return self.add_signature(name, found.version, _signing().sign(top, found.files, private_key, password))

    def add_signature(self, name: str, version: str | int, bundle: str) -> ModelVersion:
        """Keep a sigstore bundle with a version. Raises SignatureInvalid unless it is about the version's files."""
        name, version = split_reference(name, version)
        path = self._path(name, "versions", version, "signature")
        headers = {"Content-Type": BUNDLE_MEDIA_TYPE}
        return parsed(ModelVersion, self._client.request("PUT", path, content=bundle, headers=headers))

    def signature(self, name: str, version: str | int = "latest") -> str:
        """The sigstore bundle of a version, as it was given to the server. Raises NotFound when it has none."""
        name, version = split_reference(name, version)
        return self._client.request("GET", self._path(name, "versions", version, "signature")).text

    def verify(
        self,
        name: str,
        version: str | int = "latest",
        *,
        public_key: bytes | None = None,
        progress: Progress | None = None,
    ) -> Verification:
        """Have the server read all stored bytes of a version again; `damaged` names the files that are not right.

        With a public key, in PEM, its signature is checked first, here. Raises UntrustedSignature, and ProblemError
        `corrupt-bytes` when the version's manifest itself is not what its digest says.
        """
        found = self.get(name, version)
        if public_key is not None:
            self._check_signature(found, public_key)
        tally = Tally("verify", found.size_bytes, progress)
        rounds: list[Verification] = []
        url = self._path(found.name, "versions", found.version, "verify")
        while not rounds or rounds[-1].next_after is not None:
            params = {"after": rounds[-1].next_after if rounds else ""}
            answer = self._client.request("POST", url, params=params, timeout_s=SLOW_ANSWER_S)
            rounds.append(parsed(Verification, answer))
            tally.add(rounds[-1].checked_bytes)
        summed = {name: sum(getattr(one, name) for one in rounds) for name in ("checked_files", "checked_bytes")}
        damaged = [file for one in rounds for file in one.damaged]
        return rounds[-1].model_copy(update={**summed, "damaged": damaged})

    def _check_signature(self, version: ModelVersion, public_key: bytes) -> None:
        if version.signature_added_at is None:
            raise UntrustedSignature(f"{version.id} has no signature")
        _signing().check(self.signature(version.name, version.version), public_key, version.files)

    def _path(self, *parts: str | int) -> str:
        return "/".join([self._workspace, "models", *map(segment, parts)])


def _signing() -> ModuleType:
    try:
        return importlib.import_module("keelway.signing")
    except ImportError:
        raise InvalidInput("signatures need the package cryptography: pip install 'keelway-sdk[sign]'") from None


def split_reference(name: str, version: str | int = "latest") -> tuple[str, str | int]:
    """`ridge:3` is ('ridge', '3'); a bare name goes with `version`."""
    bare, colon, given = name.partition(":")
    return (bare, given) if colon else (name, version)


def _safe_path(target: Path, file: FileEntry) -> Path:
    """A file's path. DamagedDownload when it would not be below `target`, through `..` or through a link."""
    try:
        path = Path(checked_path(file.path))
    except ValueError as error:
        raise DamagedDownload(repr(file.path), f"the server sent a path that is not safe: {error}") from error
    check_below(target, path)
    return path
