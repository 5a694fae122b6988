"""Invariants of what Keelway keeps and runs, through the API and, where it is local, by looking."""

from __future__ import annotations

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
        _check_blobs(client, report)
    report.fact("content", "ready versions", _ready_versions(connect, workspaces))
    _check_replicas(layout, report)


def _check_blobs(client: Client, report: Report) -> None:
    """Every file of every version exists and its bytes hash to its digest: all of them are read."""
    blobs = size_bytes = 0
    for found in client.upkeep.scrub():
        blobs, size_bytes = blobs + found.checked_blobs, size_bytes + found.checked_bytes
        for blob in found.damaged:
            for file in blob.used_by or ["what nothing uses"]:
                report.claim(False, f"content: {file} (sha256 {blob.sha256}) {blob.damage.text}")
    report.fact("content", "blobs read and hashed", blobs)
    report.fact("content", "their bytes", size_bytes)


def _ready_versions(connect: Connect, workspaces: Iterable[str]) -> int:
    count = 0
    for workspace in workspaces:
        with connect(workspace) as client:
            for model in client.models.list():
                count += sum(version.state == "ready" for version in client.models.versions(model.name))
    return count


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
