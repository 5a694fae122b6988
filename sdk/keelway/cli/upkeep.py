"""`keelway gc` and `keelway scrub`: the object store kept clean and honest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keelway.cli import output
from keelway.cli.command import command, connect, emit
from keelway.cli.progress import Rounds

if TYPE_CHECKING:
    from keelway.contracts.upkeep import DamagedBlob, GcReport


def add_to(app: typer.Typer) -> None:
    """Both commands stand at the top."""
    command(app, "gc")(gc)
    command(app, "scrub")(scrub)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, delete nothing.")] = False,
    grace_s: Annotated[
        float | None,
        typer.Option("--grace-s", min=0, help="Seconds without a reference before deletion; else the server's."),
    ] = None,
) -> None:
    """Delete bytes that nothing refers to any more."""
    rounds: list[GcReport] = []
    with connect() as client, Rounds("looking for what nothing refers to") as show:
        for report in client.upkeep.gc(dry_run=dry_run, grace_s=grace_s):
            rounds.append(report)
            if not report.is_complete:
                deleted = sum(one.deleted_blobs for one in rounds)
                show(f"{deleted} of {rounds[0].unreferenced_blobs} blob(s) deleted")
    last = rounds[-1].model_copy(
        update={
            "abandoned_uploads": sum(report.abandoned_uploads for report in rounds),
            "unreferenced_blobs": rounds[0].unreferenced_blobs,
            "unreferenced_bytes": rounds[0].unreferenced_bytes,
            "deleted_blobs": sum(report.deleted_blobs for report in rounds),
            "deleted_bytes": sum(report.deleted_bytes for report in rounds),
        }
    )
    emit(last, _collected(last))


def scrub() -> None:
    """Read every stored byte again and compare it with its sha256; exit 1 when some are damaged."""
    damaged: list[DamagedBlob] = []
    blobs = size_bytes = 0
    with connect() as client, Rounds("reading what is stored") as show:
        for report in client.upkeep.scrub():
            blobs, size_bytes = blobs + report.checked_blobs, size_bytes + report.checked_bytes
            damaged += report.damaged
            if report.remaining_blobs:
                so_far = f", {len(damaged)} damaged" if damaged else ""
                show(f"{blobs} blob(s) read, {report.remaining_blobs} to go{so_far}")
    document = {"checked_blobs": blobs, "checked_bytes": size_bytes, "damaged": damaged}
    emit(
        document,
        "\n".join([*_damages(damaged), f"{blobs} blob(s), {output.size(size_bytes)} read, {len(damaged)} damaged"]),
    )
    if damaged:
        raise typer.Exit(1)


def _damages(damaged: list[DamagedBlob]) -> list[str]:
    return [
        f"DAMAGED  {file} (sha256 {blob.sha256}) {blob.damage.text}"
        for blob in damaged
        for file in blob.used_by or ["no file of a version or a run"]
    ]


def _collected(report: GcReport) -> str:
    would = "would be deleted" if report.is_dry_run else "deleted"
    return output.fields(
        unreferenced=f"{report.unreferenced_blobs} blob(s), {output.size(report.unreferenced_bytes)}",
        abandoned_uploads=report.abandoned_uploads,
        grace=f"{report.grace_s:g} s",
        result=f"{report.deleted_blobs} blob(s), {output.size(report.deleted_bytes)} {would}",
    )
