"""Images of environments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keelway.contracts.images import Image
from keelway.downloads import download_file
from keelway.errors import InvalidInput
from keelway.resources.base import Resource, segment
from keelway.uploads import Progress, Tally

_IDENTITY = 64


class Images(Resource):
    """`{w}/images`."""

    def list(self, *, environment: str | None = None) -> Iterator[Image]:
        """Images, newest first; with `environment` those with the lock of one of its versions."""
        return self._pages(Image, f"{self._workspace}/images", {"environment": environment})

    def get(self, identity: str) -> Image:
        """One image, by its identity."""
        return self._get(Image, self._path(identity))

    def find(self, beginning: str) -> Image:
        """The one image whose identity begins so. InvalidInput when there is none, or several."""
        if len(beginning) == _IDENTITY:
            return self.get(beginning)
        found = [image for image in self.list() if image.identity.startswith(beginning.lower())]
        if len(found) != 1:
            many = "several images have" if found else "no image has"
            raise InvalidInput(f"{many} an identity that begins with {beginning!r}")
        return found[0]

    def sbom(self, identity: str) -> dict[str, Any]:
        """What is in it, as a CycloneDX document."""
        return json.loads(self._client.request("GET", f"{self._path(identity)}/sbom").content)

    def delete(self, identity: str) -> None:
        """Delete it and its files; a build makes it again. What engines and registries have of it stays."""
        self._client.request("DELETE", self._path(identity))

    def download(
        self, identity: str, to: str | Path, *, exist_ok: bool = False, progress: Progress | None = None
    ) -> Path:
        """Put the image at `to` as a tar that `docker load` reads, an OCI layout; verified before it is there."""
        path = Path(to)
        if path.exists() and not exist_ok:
            raise InvalidInput(f"{path} exists already")
        archive = self.get(identity).archive
        tally = Tally("download", archive.size_bytes, progress)
        download_file(self._client, f"{self._path(identity)}/archive", path, sha256=archive.sha256, progress=tally.add)
        return path

    def _path(self, identity: str) -> str:
        return f"{self._workspace}/images/{segment(identity)}"
