"""What people read of a model version: `keelway model show`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keelway.cli import output

if TYPE_CHECKING:
    from keelway.contracts.files import FileEntry
    from keelway.contracts.models import ModelVersion, ResourceRequirements

_SAMPLE_SHOWN = 200
_FINDINGS_SHOWN = 20
_FILES_SHOWN = 20
_DIGEST_SHOWN = 12


def page(version: ModelVersion) -> str:
    """All that is known of a version, in groups; what is too long is cut and says where the rest is."""
    groups = [
        f"{version.id}  {version.state}",
        output.section("What it is", _about(version)),
        output.section(_total(version), _files(version)),
        output.section("Safety", safety(version)),
        output.section("Lineage", _lineage(version)),
    ]
    return "\n\n".join(group for group in groups if group)


def files(found: Sequence[FileEntry]) -> str:
    """All files with their whole digests."""
    return output.columns(
        ["file", "size", "sha256"], [[file.path, output.size(file.size_bytes), file.sha256] for file in found]
    )


def safety(version: ModelVersion) -> str:
    """The label, when it was given and what was found, the gravest first."""
    if version.safety is None:
        return "not inspected yet" if version.state == "ready" else ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in version.safety.kinds.items())
    label = f"{version.safety.label}: {kinds}; looked at {output.when(version.safety.inspected_at)}"
    found = version.safety.findings
    if not found:
        return label
    rows = [[one.severity.value, one.path, one.code, _cut(one.detail)] for one in found[:_FINDINGS_SHOWN]]
    more = f"\n... and {len(found) - _FINDINGS_SHOWN} more: --json" if len(found) > _FINDINGS_SHOWN else ""
    return f"{label}\n\n{output.columns(['severity', 'in file', 'finding', 'detail'], rows)}{more}"


def mark(version: ModelVersion) -> str:
    """The label in one word, and the worst that was found."""
    if version.safety is None:
        return "-"
    worst = next((f" ({name}!)" for name in ("danger", "warning") if name in version.safety.findings_by_severity), "")
    return f"{version.safety.label}{worst}"


def _about(version: ModelVersion) -> str:
    return output.fields(
        description=version.description,
        framework=f"{version.framework or ''} {version.framework_version or ''}".strip(),
        needs=_needs(version.resource_requirements),
        aliases=version.aliases,
        tags=version.tags,
        properties=version.properties,
        sample_input=_sample(version.sample_input),
        sample_output=_sample(version.sample_output),
        approval=_approval(version),
        signature=_signature(version),
    )


def _lineage(version: ModelVersion) -> str:
    return output.fields(
        run=version.run,
        datasets=[f"{dataset.id} ({dataset.scenario})" for dataset in version.datasets],
        used_by=version.used_by,
        created=f"{output.when(version.created_at)} by {version.created_by}",
    )


def _total(version: ModelVersion) -> str:
    size = output.size(version.size_bytes)
    return f"Files: {size} in {len(version.files)} file(s), digest {version.digest[:_DIGEST_SHOWN]}"


def _files(version: ModelVersion) -> str:
    shown = version.files[:_FILES_SHOWN]
    rows = [[file.path, output.size(file.size_bytes), file.sha256[:_DIGEST_SHOWN]] for file in shown]
    left = len(version.files) - len(shown)
    more = f"\n... and {left} more: keelway model files {version.id}" if left else ""
    return output.columns(["file", "size", "sha256"], rows) + more


def _needs(requirements: ResourceRequirements | None) -> str:
    if requirements is None:
        return ""
    units = {"cpu": "core(s)", "memory_gb": "GB", "gpu": "GPU(s)"}
    return ", ".join(f"{value:g} {units[key]}" for key, value in requirements if value is not None)


def _sample(sample: Any) -> str:
    text = "" if sample is None else json.dumps(sample, ensure_ascii=False)
    return text if len(text) <= _SAMPLE_SHOWN else f"{text[:_SAMPLE_SHOWN]} ... ({output.size(len(text))})"


def _signature(version: ModelVersion) -> str:
    if version.signature_added_at is None:
        return ""
    key = f"by key {version.signature_key[:16]}, " if version.signature_key else ""
    return f"{key}added {output.when(version.signature_added_at)} by {version.signature_added_by}; not verified here"


def _approval(version: ModelVersion) -> str:
    if version.approved_at:
        return f"approved {output.when(version.approved_at)} by {version.approved_by}"
    return "required, not given yet" if version.requires_approval else ""


def _cut(text: str) -> str:
    return text if len(text) <= _SAMPLE_SHOWN else f"{text[:_SAMPLE_SHOWN]} ..."
