"""`inspect`: what the files of a version are, found out without loading them."""

from __future__ import annotations

from typing import Any

from keelway.contracts.safety import INSPECTOR, BlobInspection, InspectBlob, Inspections, InspectSpec
from keelway_workers.inspection.parent import inspections
from keelway_workers.operation import Attempt

AT_ONCE = 200


def inspect(attempt: Attempt) -> dict[str, Any]:
    """Look at the blobs of the spec. What is found is handed in as it is found: a later attempt goes on from there."""
    spec = InspectSpec.model_validate(attempt.claim.spec)
    attempt.step(f"Inspecting {len(spec.blobs)} file(s)")

    def read(blob: InspectBlob, offset: int, length: int) -> bytes:
        return attempt.patiently(lambda: attempt.client.blobs.read(blob.sha256, offset, length))

    found = 0
    for start in range(0, len(spec.blobs), AT_ONCE):
        some = spec.blobs[start : start + AT_ONCE]
        for items in inspections(some, read=read, subtree=attempt.subtree, timeout_s=lambda: attempt.seconds_left):
            _hand_in(attempt, items)
            found += len(items)
    return {"inspected": found}


def _hand_in(attempt: Attempt, items: list[BlobInspection]) -> None:
    for item in items:
        for finding in item.findings:
            attempt.reporter.log(f"{item.sha256[:12]} {item.kind}: {finding.severity} {finding.code}: {finding.detail}")
    body = Inspections(epoch=attempt.epoch, inspector=INSPECTOR, items=items)
    attempt.patiently(lambda: attempt.client.operations.inspected(attempt.id, body))
