"""Images as files: the OCI layout, which `docker load` reads as well. Layers are files of their own, kept once each.

The layout: https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md. `manifest.json` beside it is what
`docker load` has read since before there was one.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from keelway_workers.failures import WorkFailed
from keelway_workers.images.engine import Check

CHUNK = 1 << 20
BLOBS = "blobs/sha256"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Layout:
    """An image in a folder. `digest` is that of its manifest: what registries call it by."""

    folder: Path
    digest: str
    config: str
    files: dict[str, Path]


def write_layout(archive: tarfile.TarFile, folder: Path, *, name: str, check: Check) -> Layout:
    """Lay out an image that an engine saves, in either of the forms engines write, as files of a folder."""
    (folder / BLOBS).mkdir(parents=True)
    found: dict[str, str] = {}  # name in the archive -> digest
    said: list[Any] = []
    for member in archive:
        check()
        source = archive.extractfile(member) if member.isfile() else None
        if source is None:
            if member.issym():  # a layer that is there twice
                found[member.name] = f"link:{_resolved(member)}"
            continue
        if member.name == "manifest.json":
            said = json.load(source)
        else:
            found[member.name] = _keep(source, folder, check)
    if len(said) != 1:
        raise WorkFailed("engine-failed", "the engine has saved something that is not one image")
    config = _digest(found, said[0]["Config"])
    layers = [_digest(found, layer) for layer in said[0]["Layers"] or ()]
    return _finished(folder, name, config, layers)


def _resolved(member: tarfile.TarInfo) -> str:
    parts = [*member.name.split("/")[:-1], *member.linkname.split("/")]
    path: list[str] = []
    for part in parts:
        if part == "..":
            path = path[:-1]
        elif part not in {"", "."}:
            path.append(part)
    return "/".join(path)


def _digest(found: dict[str, str], name: str) -> str:
    digest = ""
    for _ in range(8):
        digest = found.get(name, "")
        if not digest.startswith("link:"):
            break
        name = digest.removeprefix("link:")
    if not digest:
        raise WorkFailed("engine-failed", f"the engine has saved an image without its {name}")
    return digest


def _keep(source: IO[bytes], folder: Path, check: Check) -> str:
    """Write a blob under its digest."""
    temporary = folder / "incoming"
    hashed = hashlib.sha256()
    with temporary.open("wb") as target:
        while chunk := source.read(CHUNK):
            check()
            hashed.update(chunk)
            target.write(chunk)
    digest = hashed.hexdigest()
    temporary.rename(folder / BLOBS / digest)
    return digest


def _finished(folder: Path, name: str, config: str, layers: list[str]) -> Layout:
    """Write what names the blobs, and leave out those that nothing names."""
    manifest = _document(
        folder / BLOBS,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(folder, CONFIG_TYPE, config),
            "layers": [_descriptor(folder, LAYER_TYPE, layer) for layer in layers],
        },
    )
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [_descriptor(folder, MANIFEST_TYPE, manifest) | {"annotations": {REF_NAME: name}}],
    }
    (folder / "index.json").write_text(as_json(index))
    (folder / "oci-layout").write_text(as_json({"imageLayoutVersion": "1.0.0"}))
    paths = {"Config": f"{BLOBS}/{config}", "RepoTags": [name], "Layers": [f"{BLOBS}/{layer}" for layer in layers]}
    (folder / "manifest.json").write_text(as_json([paths]))
    kept = {config, manifest, *layers}
    for blob in (folder / BLOBS).iterdir():
        if blob.name not in kept:
            blob.unlink()
    names = ["oci-layout", "index.json", "manifest.json", *(f"{BLOBS}/{blob}" for blob in sorted(kept))]
    return Layout(folder, f"sha256:{manifest}", f"sha256:{config}", {path: folder / path for path in names})


def _descriptor(folder: Path, media_type: str, digest: str) -> dict[str, Any]:
    size_bytes = (folder / BLOBS / digest).stat().st_size
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size_bytes}


def _document(blobs: Path, content: dict[str, Any]) -> str:
    text = as_json(content).encode()
    digest = hashlib.sha256(text).hexdigest()
    (blobs / digest).write_bytes(text)
    return digest


def as_json(content: Any) -> str:
    """JSON whose bytes follow from what it says."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
