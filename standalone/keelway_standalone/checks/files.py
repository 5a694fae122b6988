"""Who can read the data directory."""

from __future__ import annotations

from keelway_standalone.checks.report import Report
from keelway_standalone.files import OWNER_DIR, OWNER_FILE
from keelway_standalone.layout import Layout
from keelway_standalone.s3 import count_identities
from keelway_standalone.secrets import MAKERS


def check_files(layout: Layout, report: Report) -> None:
    """Folders 0700, secrets 0600 and all there."""
    for folder in layout.folders:
        if not folder.is_dir():
            report.claim(False, f"files: {folder} is missing")
        else:
            mode = folder.stat().st_mode & 0o777
            report.claim(mode == OWNER_DIR, f"files: {folder} has mode {mode:04o}, not {OWNER_DIR:04o}")
    _check_secrets(layout, report)
    report.expect("s3", "identities with keys", count_identities(layout.s3 / "identities.json"), 1)


def _check_secrets(layout: Layout, report: Report) -> None:
    paths = list(layout.secrets.iterdir()) if layout.secrets.is_dir() else []
    missing = sorted(MAKERS.keys() - {path.name for path in paths})
    report.claim(not missing, f"files: secrets are missing: {', '.join(missing)}")
    for path in paths:
        mode = path.stat().st_mode & 0o777
        report.claim(mode == OWNER_FILE, f"files: {path} has mode {mode:04o}, not {OWNER_FILE:04o}")
    report.fact("files", "secrets", f"{len(paths)} in {layout.secrets}")
