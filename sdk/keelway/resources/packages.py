"""Packages: create, wait, save, load into an engine, delete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from keelway.contracts.files import checked_path
from keelway.contracts.models import ModelVersion
from keelway.contracts.packages import ContainerRegistry, Package, PackageCreate, PackageKind, PackageState
from keelway.contracts.services import InferenceConfig
from keelway.downloads import download_file
from keelway.errors import DamagedDownload, InvalidInput, KeelwayError, raise_unless_succeeded
from keelway.inference import InferenceSource
from keelway.resources.base import Resource, checked, dumped, parsed, segment
from keelway.resources.inference import make_config, reference
from keelway.resources.operations import OnChange
from keelway.uploads import Progress, Tally

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Packages(Resource):
    """`{w}/packages`."""

    def create(
        self,
        models: Sequence[ModelVersion | str],
        inference: InferenceConfig | InferenceSource,
        *,
        kind: str = PackageKind.IMAGE,
        image_name: str = "package",
        image_label: str | None = None,
    ) -> PackageHandle:
        """Have models packaged; the handle waits for it. `kind`: `image`, or `dockerfile` for what one is built from.

        From an InferenceSource a snapshot and the environment `<first model>-env` are made first.
        """
        references = [model.id if isinstance(model, ModelVersion) else reference(model) for model in models]
        if isinstance(inference, InferenceSource):
            name = references[0].partition(":")[0] if references else image_name.replace("/", "-")
            inference = make_config(self._client, name, inference)
        body = checked(
            PackageCreate,
            models=references,
            inference_config=inference,
            kind=kind,
            image_name=image_name,
            image_label=image_label,
        )
        response = self._client.request("POST", self._path(), json=dumped(body))
        return PackageHandle(self, parsed(Package, response))

    def get(self, id: str) -> Package:
        """A package as it is now."""
        return self._get(Package, self._path(id))

    def list(self, *, model: str | None = None) -> Iterator[Package]:
        """Packages, newest first; with `model`, a `name:version`, those that hold it."""
        return self._pages(Package, self._path(), {"model": model})

    def find(self, wanted: str) -> Package:
        """A package by its id, or the newest by the name of its image. InvalidInput when there is none."""
        if _ID.fullmatch(wanted):
            return self.get(wanted)
        for package in self.list():
            if wanted in {package.image, package.image.rpartition(":")[0]}:
                return package
        raise InvalidInput(f"no package has an image called {wanted!r}")

    def sbom(self, id: str) -> dict[str, Any]:
        """What is in it, as a CycloneDX document."""
        return json.loads(self._client.request("GET", f"{self._path(id)}/sbom").content)

    def registry(self, id: str) -> ContainerRegistry:
        """Where its image can be had, and as whom; of a `dockerfile` package, where the image it starts from can."""
        return self._get(ContainerRegistry, f"{self._path(id)}/registry")

    def delete(self, id: str) -> None:
        """Delete it and its files. Images that were loaded or pushed elsewhere stay."""
        self._client.request("DELETE", self._path(id))

    def save(self, id: str, to: str | Path, *, exist_ok: bool = False, progress: Progress | None = None) -> Path:
        """Put it at `to`, verified: an image as a tar that `docker load` reads, a `dockerfile` package as a folder."""
        package, path = self._ready(id), Path(to)
        if package.kind is PackageKind.IMAGE:
            if path.exists() and not exist_ok:
                raise InvalidInput(f"{path} exists already")
            self._download(package, path, progress)
            return path
        if path.exists() and not (path.is_dir() and (exist_ok or not any(path.iterdir()))):
            raise InvalidInput(f"{path} exists already, and is not an empty folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".keelway-") as scratch:
            self._download(package, Path(scratch, "package.tar"), progress)
            _unpack(Path(scratch, "package.tar"), Path(scratch, "package"))
            if path.exists():
                shutil.copytree(Path(scratch, "package"), path, dirs_exist_ok=True)
            else:
                Path(scratch, "package").rename(path)
        return path

    def pull(self, id: str, *, progress: Progress | None = None) -> str:
        """Have this machine's container engine load its image, as it lies in Keelway; the name it has there.

        InvalidInput for a `dockerfile` package, KeelwayError when there is no `docker` command or it fails.
        """
        package = self._ready(id)
        if package.kind is not PackageKind.IMAGE:
            raise InvalidInput(f"package {id} is a folder to build an image from: save it, then `docker build` it")
        docker = shutil.which("docker")
        if docker is None:
            raise KeelwayError("there is no `docker` command here; save the package and load the tar where there is")
        with tempfile.TemporaryDirectory(prefix="keelway-") as scratch:
            archive = Path(scratch, "image.tar")
            self._download(package, archive, progress)
            command = [docker, "load", "--input", str(archive)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise KeelwayError(f"`docker load` failed: {done.stderr.strip() or done.stdout.strip()}")
        return package.image

    def _ready(self, id: str) -> Package:
        package = self.get(id)
        if package.state is not PackageState.READY:
            why = f": {package.reason}" if package.reason else ""
            raise InvalidInput(f"package {id} is {package.state}{why}")
        return package

    def _download(self, package: Package, to: Path, progress: Progress | None) -> None:
        if package.archive is None:
            raise KeelwayError(f"package {package.id} is ready and has no archive")
        tally = Tally("download", package.archive.size_bytes, progress)
        url = f"{self._path(package.id)}/download"
        download_file(self._client, url, to, sha256=package.archive.sha256, progress=tally.add)

    def _path(self, id: str | None = None) -> str:
        path = f"{self._workspace}/packages"
        return path if id is None else f"{path}/{segment(id)}"


class PackageHandle:
    """A package that is being made. Has all attributes of `Package`, as they were when it was last read."""

    def __init__(self, packages: Packages, package: Package) -> None:
        self._packages = packages
        self.package = package

    def __getattr__(self, name: str) -> Any:
        return getattr(self.package, name)

    def __repr__(self) -> str:
        return f"<PackageHandle {self.package.image}: {self.package.state}>"

    def wait(self, timeout_s: float | None = None, progress: OnChange | None = None) -> Package:
        """The package once it is ready; `progress` gets every new state of the operation.

        Raises OperationFailed, OperationCancelled, or WaitTimeout after `timeout_s`.
        """
        if self.package.operation:
            operation = self._packages._client.operations.wait(self.package.operation, timeout_s, progress)
            raise_unless_succeeded(operation)
        self.package = self._packages.get(self.package.id)
        return self.package

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """What the build said, in pieces; with `follow`, until it ends."""
        return self._packages._client.operations.logs(self.package.operation or "", follow)


def _safe(member: tarfile.TarInfo) -> str:
    """Where a file of a package lies in it."""
    try:
        if not member.isfile():
            raise ValueError("not a file")
        return checked_path(member.name)
    except ValueError as error:
        raise DamagedDownload(repr(member.name), f"the server sent what is not safe to unpack: {error}") from error


def _unpack(archive: Path, folder: Path) -> None:
    """A package's files, readable by whoever runs in the image that is built of them, whatever the umask here."""
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            path = folder / _safe(member)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as target:
                shutil.copyfileobj(cast("IO[bytes]", tar.extractfile(member)), target)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
