"""Invariants of what Keelway keeps and runs, through the API and, where it is local, by looking."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keelway_standalone.checks.report import Report
from keelway_standalone.layout import Layout
from keelway_standalone.strays import replicas

if TYPE_CHECKING:
    from keelway import Client
    from keelway.contracts.models import ModelVersion

    Connect = Callable[[str], Client]  # a client for the workspace of that name

LATE = timedelta(seconds=60)
SETTLE_S = 10.0  # a replica may just be starting or stopping


def check_content(connect: Connect, layout: Layout, report: Report) -> None:
    """Bytes, operations, replicas. Raises KeelwayError or OSError when API or store go away meanwhile."""
    with connect("default") as client:
        for name, state in client.request("GET", "/statusz").json()["dependencies"].items():
            report.expect("api", f"reaches {name}", state, "ok")
        workspaces = [workspace.name for workspace in client.workspaces.list()]
        _check_operations(client, report)
        check_blobs(client, report)
    check_versions(connect, workspaces, report)
    _check_replicas(layout, report)


def check_blobs(client: Client, report: Report) -> None:
    """The bytes of every file of every version exist and hash to its sha256: all of them are read."""
    blobs = size_bytes = 0
    for found in client.upkeep.scrub():
        blobs, size_bytes = blobs + found.checked_blobs, size_bytes + found.checked_bytes
        for blob in found.damaged:
            for file in blob.used_by or ["what nothing uses"]:
                report.claim(False, f"content: {file} (sha256 {blob.sha256}) {blob.damage.text}")
    report.fact("content", "blobs read and hashed", blobs)
    report.fact("content", "their bytes", size_bytes)


def check_versions(connect: Connect, workspaces: Iterable[str], report: Report) -> None:
    """The files of every ready version are those that its digest was made of."""
    count = 0
    for workspace in workspaces:
        with connect(workspace) as client:
            ready = [found for found in client.models.find_versions() if found.state == "ready"]
            count += len(ready)
            for found in ready:
                _check_manifest(client, workspace, found, report)
    report.fact("content", "ready versions", count)


def _check_manifest(client: Client, workspace: str, version: ModelVersion, report: Report) -> None:
    from keelway.contracts.files import manifest_digest  # noqa: PLC0415 (the SDK is needed on a running stack only)
    from keelway.errors import NotFound  # noqa: PLC0415

    try:
        files = client.models.get(version.name, version.version).files
    except NotFound:  # deleted since it was listed
        return
    wrong = f"content: {workspace}/{version.id} lists other files than those of its digest {version.digest}"
    report.claim(manifest_digest(files) == version.digest, wrong)


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
    while (desired := _desired(layout)) != (running := _running(layout)) and time.monotonic() < ends_at:
        time.sleep(0.5)
    report.fact("content", "replicas", len(running))
    for name in sorted(desired - running):
        report.claim(False, f"content: replica {name} should run and does not")
    for name in sorted(running - desired):
        report.claim(False, f"content: replica {name} runs and should not")


def _running(layout: Layout) -> set[str]:
    """Replicas by name: processes, and containers where this node has had any. An engine that is away has none."""
    from keelway_workers.containers import AWAY, REPLICA, Containers  # noqa: PLC0415 (slow, and rarely needed)

    found = replicas(layout)
    with contextlib.suppress(*AWAY, FileNotFoundError), contextlib.closing(Containers(_identity(layout))) as containers:
        found |= {one.labels.get(REPLICA, "") for one in containers.by_name().values() if one.is_running}
    return found


def _identity(layout: Layout) -> str:
    return (layout.node / "identity").read_text(encoding="utf-8").strip()


def _desired(layout: Layout) -> set[str]:
    try:
        document = json.loads((layout.node / "desired.json").read_text())
        return {replica["name"] for replica in document["replicas"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
