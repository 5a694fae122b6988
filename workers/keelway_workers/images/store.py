"""Images in the object store: sent as files of the OCI layout, most of which it has already, and loaded again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keelway.contracts.files import FileEntry
from keelway.contracts.images import SBOM, Archive, ImageResult
from keelway_workers.images.archive import pieces
from keelway_workers.images.builder import BuiltImage
from keelway_workers.images.engine import Check, Engine, Say
from keelway_workers.images.oci import write_layout
from keelway_workers.node_dir import NodeDir
from keelway_workers.operation import Attempt


@dataclass(frozen=True)
class Stored:
    """Files that the object store has: the digest of their snapshot, and the tar that the API makes of them."""

    digest: str
    archive: Archive


def store_files(attempt: Attempt, files: Mapping[str, Path]) -> Stored:
    """Have these files in the object store, by the paths they get there."""
    ordered = dict(sorted(files.items()))
    archive = archive_of(ordered, attempt)
    digest = attempt.patiently(
        lambda: attempt.client.operations.store_files(
            attempt.id, attempt.epoch, ordered, progress=lambda *_: attempt.check()
        )
    )
    return Stored(digest, archive)


def store_layout(attempt: Attempt, engine: Engine, node: NodeDir, image: str, *, name: str, contents: str) -> Stored:
    """Have an image of the engine in the object store, under the name that it gets where it is loaded.

    `contents`: what is in it, as a CycloneDX document.
    """
    with node.scratch() as scratch:
        with engine.save(image) as saved:
            layout = write_layout(saved, scratch / "layout", name=name, check=attempt.check)
        (scratch / SBOM).write_text(contents, encoding="utf-8")
        return store_files(attempt, {**layout.files, SBOM: scratch / SBOM})


def store_image(attempt: Attempt, engine: Engine, node: NodeDir, built: BuiltImage) -> ImageResult:
    """Have the image's files in the object store, and what there is to say of it."""
    plan = built.plan
    stored = store_layout(attempt, engine, node, plan.name, name=plan.name, contents=plan.sbom())
    return ImageResult(
        identity=plan.identity,
        name=plan.name,
        image_id=built.facts.id,
        base_image=plan.base.reference,
        base_id=plan.base.id,
        python_version=plan.base.python.version if plan.base.python else plan.spec.python_version,
        size_bytes=built.facts.size_bytes,
        files=stored.digest,
        archive=stored.archive,
    )


def load_files(engine: Engine, node: NodeDir, files: Sequence[FileEntry], check: Check, say: Say) -> None:
    """Have the engine load an image whose files are in the node's cache of blobs."""
    engine.load(pieces({file.path: node.blob(file.sha256) for file in files}, check), say)


def archive_of(files: Mapping[str, Path], attempt: Attempt) -> Archive:
    """The digest and size of the tar that the API makes of these files, in the order of their paths."""
    hashed, size_bytes = hashlib.sha256(), 0
    for piece in pieces(dict(sorted(files.items())), attempt.check):
        hashed.update(piece)
        size_bytes += len(piece)
    return Archive(sha256=hashed.hexdigest(), size_bytes=size_bytes)
