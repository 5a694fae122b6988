"""Invariants of what Keelway keeps and runs, through the API and, where it is local, by looking."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import minio
import urllib3

from keelway_standalone.checks.report import Report
from keelway_standalone.layout import Layout
from keelway_standalone.s3 import BUCKET, S3
from keelway_standalone.strays import replicas

if TYPE_CHECKING:
    from keelway import Client
    from keelway.contracts.models import ModelVersion

    Connect = Callable[[str], Client]  # a client for the workspace of that name

LATE = timedelta(seconds=60)
SETTLE_S = 10.0  # a replica may just be starting or stopping


def check_content(connect: Connect, layout: Layout, s3: S3, report: Report) -> None:
    """Bytes, operations, replicas. Raises KeelwayError or OSError when API or store go away meanwhile."""
    with connect("default") as client:
        for name, state in client.request("GET", "/statusz").json()["dependencies"].items():
            report.expect("api", f"reaches {name}", state, "ok")
        workspaces = [workspace.name for workspace in client.workspaces.list()]
        _check_operations(client, report)
    _check_blobs(_ready_versions(connect, workspaces), s3, report)
    _check_replicas(layout, report)


def _check_blobs(versions: Iterable[ModelVersion], s3: S3, report: Report) -> None:
    """Each ready version's bytes are in the store, with the right size."""
    sizes: dict[str, int | None] = {}
    count = 0
    store = s3.client()
    for version in versions:
        count += 1
        for file in version.files:
            if file.sha256 not in sizes:
                sizes[file.sha256] = _stored_size(store, file.sha256)
            where = f"content: {version.id} {file.path} (sha256 {file.sha256})"
            found = sizes[file.sha256]
            report.claim(found is not None, f"{where} is not in the store")
            report.claim(found in {None, file.size_bytes}, f"{where} has {found} bytes, not {file.size_bytes}")
    report.fact("content", "ready versions", count)
    report.fact("content", "their blobs", len(sizes))


def _ready_versions(connect: Connect, workspaces: Iterable[str]) -> Iterator[ModelVersion]:
    for workspace in workspaces:
        with connect(workspace) as client:
            for model in client.models.list():
                ready = (version for version in client.models.versions(model.name) if version.state == "ready")
                yield from (client.models.get(model.name, version.version) for version in ready)  # lists name no files


def _stored_size(store: minio.Minio, sha256: str) -> int | None:
    try:
        return store.stat_object(BUCKET, f"blobs/sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}").size
    except minio.S3Error as error:
        if error.code != "NoSuchKey":
            raise OSError(f"the object store: {error.code}") from error
        return None
    except urllib3.exceptions.HTTPError as error:
        raise OSError(f"the object store: {error}") from error


def _check_operations(client: Client, report: Report) -> None:
    """None goes on past its deadline."""
    now = datetime.now(UTC)
    running = [operation for operation in client.operations.list() if not operation.state.is_terminal]
    for operation in running:
        late = now - operation.deadline_at
        name = f"content: operation {operation.id} ({operation.kind} {operation.subject})"
        report.claim(late < LATE, f"{name} is {operation.state} {late.total_seconds():.0f} s after its deadline")
    report.fact("content", "operations under way", len(running))


def _check_replicas(layout: Layout, report: Report) -> None:
    """What runs on this node is what should run, once it had time to become so."""
    ends_at = time.monotonic() + SETTLE_S
    while (desired := _desired(layout)) != (running := replicas(layout)) and time.monotonic() < ends_at:
        time.sleep(0.5)
    report.fact("content", "replicas", len(running))
    for name in sorted(desired - running):
        report.claim(False, f"content: replica {name} should run and does not")
    for name in sorted(running - desired):
        report.claim(False, f"content: replica {name} runs and should not")


def _desired(layout: Layout) -> set[str]:
    try:
        document = json.loads((layout.node / "desired.json").read_text())
        return {replica["name"] for replica in document["replicas"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
