"""`keelway service data`: rows that entry scripts collected while they scored."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keelway.cli import output
from keelway.cli.command import NameArgument, NameOption, Yes, command, confirm, connect, emit, one_of
from keelway.cli.progress import Transfer

if TYPE_CHECKING:
    from keelway.contracts.collected import CollectedFile

app = typer.Typer(name="data", help="Rows that a service collected, in CSV files.", no_args_is_help=True)

_DAY = ["%Y-%m-%d"]
Day = Annotated[datetime | None, typer.Option("--day", formats=_DAY, help="Only files of this day (UTC).")]
Designation = Annotated[str | None, typer.Option("--designation", help="Only these, such as inputs or predictions.")]


@command(app, "list")
def list_(
    argument: NameArgument = None, name: NameOption = None, day: Day = None, designation: Designation = None
) -> None:
    """List files, by path; also those that a deleted service of this name left."""
    with connect() as client:
        found = list(client.services.collected(one_of(argument, name), day=_date(day), designation=designation))
    emit(found, _table(found))


@command(app, "download")
def download(
    argument: NameArgument = None,
    name: NameOption = None,
    target_dir: Annotated[Path, typer.Option("--target-dir", "-t", help="Where to put them.")] = Path(),
    day: Day = None,
    designation: Designation = None,
) -> None:
    """Download files to their paths below a folder; run again, it brings what is new."""
    with connect() as client, Transfer() as transfer:
        paths = client.services.download_collected(
            one_of(argument, name), target_dir, day=_date(day), designation=designation, progress=transfer
        )
    emit([str(path) for path in paths], f"{len(paths)} file(s) below {target_dir}")


@command(app, "delete")
def delete(
    argument: NameArgument = None,
    name: NameOption = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=_DAY, help="Only files of days up to this one (UTC).")
    ] = None,
    yes: Yes = False,
) -> None:
    """Delete collected files; deleting the service does not."""
    service = one_of(argument, name)
    days = f" up to {until:%Y-%m-%d}" if until else ""
    confirm(f"Delete the data that service {service} collected{days}?", yes=yes)
    with connect() as client:
        done = client.services.delete_collected(service, until=_date(until))
    emit(done, f"deleted {done.deleted_files} file(s), {output.size(done.deleted_bytes)}")


def _date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _table(found: list[CollectedFile]) -> str:
    rows = [[file.path, output.size(file.size_bytes), output.when(file.created_at)] for file in found]
    return output.columns(["path", "size", "received"], rows)
