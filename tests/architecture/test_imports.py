"""Who may import whom: the contracts hold, and each of them would catch what it forbids."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "keelway_api": "api",
    "keelway_workers": "workers",
    "keelway_runtime": "runtime",
    "keelway": "sdk",
    "keelway_standalone": "standalone",
}
OFFENCES = {
    "api, workers and runtime are independent of one another": [
        ("api/keelway_api/events.py", "import keelway_workers.settings"),
        ("workers/keelway_workers/node.py", "import keelway_runtime.server"),
        ("runtime/keelway_runtime/shims.py", "import keelway_api.settings"),
    ],
    "the wire contracts import nothing else of ours": [
        ("sdk/keelway/contracts/base.py", "import keelway.client"),
        ("sdk/keelway/contracts/models.py", "import keelway_standalone.files"),
    ],
    "workers never touch the database": [
        ("workers/keelway_workers/node.py", "import sqlalchemy"),
        ("workers/keelway_workers/build.py", "from psycopg import sql"),
        ("workers/keelway_workers/delete.py", "import alembic.command"),
    ],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of all code."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package, folder in PACKAGES.items():
        ignored = shutil.ignore_patterns("__pycache__", "wheels")
        shutil.copytree(ROOT / folder / package, copy / folder / package, ignore=ignored)
    return copy


def lint(tree):
    """Exit code and report of import-linter in a tree."""
    path = os.pathsep.join(str(tree / folder) for folder in PACKAGES.values())
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_code_keeps_to_its_contracts(tree):
    code, report = lint(tree)

    assert code == 0, report
    assert f"Contracts: {len(OFFENCES)} kept, 0 broken." in report


@pytest.mark.parametrize(
    ("contract", "file", "offence"),
    [(contract, *offence) for contract, offences in OFFENCES.items() for offence in offences],
)
def test_an_offence_breaks_its_contract(tree, contract, file, offence):
    path = tree / file
    before = path.read_text()
    path.write_text(f"{before}\n{offence}\n")
    try:
        code, report = lint(tree)
    finally:
        path.write_text(before)

    assert code == 1, report
    assert f"{contract} BROKEN" in report
