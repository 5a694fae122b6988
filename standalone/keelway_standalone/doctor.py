"""`keelway doctor`: what is installed, how durable it is set to be, and whether everything fits together."""

from __future__ import annotations

from pathlib import Path

from keelway_standalone.addresses import Addresses, load
from keelway_standalone.checks.content import check_content
from keelway_standalone.checks.files import check_files
from keelway_standalone.checks.report import Report
from keelway_standalone.checks.services import check_postgres, check_redis, check_s3
from keelway_standalone.checks.versions import check_versions
from keelway_standalone.layout import Layout
from keelway_standalone.lock import holder
from keelway_standalone.postgres import Postgres
from keelway_standalone.redis import Redis
from keelway_standalone.s3 import S3
from keelway_standalone.secrets import Secrets
from keelway_standalone.status import read


def doctor(data_dir: Path | None) -> int:
    """Look at everything, print it, and give 1 when something is wrong."""
    report = examine(Layout.at(data_dir))
    for subject, name, value in report.facts:
        print(f"{subject:10} {name:34} {value}")
    for wrong in report.wrong:
        print(f"WRONG      {wrong}")
    print(f"{len(report.wrong)} thing(s) wrong" if report.wrong else "nothing is wrong")
    return 1 if report.wrong else 0


def examine(layout: Layout) -> Report:
    """All checks that can be made: of files always, of services and content while the stack runs."""
    report = Report()
    check_versions(report)
    if not layout.secrets.is_dir():
        report.fact("up", "data directory", f"{layout.root}: not made yet, `keelway up` does")
        return report
    report.fact("up", "data directory", layout.root)
    check_files(layout, report)
    pid = holder(layout.lock)
    if pid is None:
        report.fact("up", "state", "stopped: only files were looked at")
        return report
    report.fact("up", "state", f"{read(layout.status).get('state')} (pid {pid})")
    _check_running(layout, load(layout.addresses), report)
    return report


def _check_running(layout: Layout, addresses: Addresses, report: Report) -> None:
    secrets = Secrets(layout.secrets)
    names = _check_children(layout, report)
    check_postgres(Postgres(layout, addresses, secrets), report)
    check_redis(Redis(layout, addresses, secrets), report)
    check_s3(S3(layout, addresses, secrets), report)
    if "api" in names:
        _check_content(layout, addresses, report)


def _check_children(layout: Layout, report: Report) -> set[str]:
    children = read(layout.status).get("children", [])
    for child in children:
        last = f", last ended by: {child['last_exit']}" if child["last_exit"] else ""
        report.fact("up", child["name"], f"{child['state']} (pid {child['pid']}, {child['restarts']} restarts{last})")
        report.claim(child["state"] == "running", f"up: {child['name']} is {child['state']}{last}")
    return {child["name"] for child in children}


def _check_content(layout: Layout, addresses: Addresses, report: Report) -> None:
    from keelway import Client  # noqa: PLC0415 (the SDK is needed on a running stack only)
    from keelway.errors import KeelwayError  # noqa: PLC0415

    token = Secrets(layout.secrets).read("admin_token")

    def connect(workspace: str) -> Client:
        return Client(addresses.url, token, workspace=workspace, retry_for_s=5)

    try:
        check_content(connect, layout, report)
    except (KeelwayError, OSError) as error:
        report.claim(False, f"content: could not be checked: {type(error).__name__}: {error}")
