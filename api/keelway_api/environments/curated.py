"""Environments that Keelway makes itself: read-only, the same for every workspace, locked when Keelway is released.

A lock here holds for every Python from 3.9 on and every platform. `python -m keelway_api.environments.curated` resolves
them anew; a change of one is a new version of it at the next start.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import uv
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from keelway.contracts.environments import lock_digest
from keelway_api.environments import resolver
from keelway_api.environments.tables import EnvironmentTable, EnvironmentVersionTable
from keelway_api.errors import NameReserved

FOLDER = Path(__file__).parent / "curated_locks"
OLDEST_PYTHON = "3.9"
ANY_PYTHON = "3"
RESERVED = ("Keelway", "AzureML", "Microsoft")
MINIMAL = "Keelway-Minimal"
CURATED: dict[str, tuple[str, ...]] = {
    MINIMAL: (),
    "Keelway-Sklearn": ("scikit-learn", "numpy", "pandas", "joblib", "inference-schema[numpy-support,pandas-support]"),
}
_LOWER = {name.lower() for name in CURATED}


def require_free(name: str) -> None:
    """Raises NameReserved for a name that users may not register: a curated one, whatever its case, or like one."""
    if name.startswith(RESERVED) or name.lower() in _LOWER:
        raise NameReserved(name, RESERVED)


def lock_file(name: str) -> Path:
    """Where a curated environment's lock is."""
    return FOLDER / f"{name}.txt"


async def ensure(session: AsyncSession) -> None:
    """Have the curated environments of this release. Any number of processes may do so at once."""
    for name, requirements in CURATED.items():
        await _ensure(session, name, requirements, lock_file(name).read_text(encoding="utf-8"))


async def _ensure(session: AsyncSession, name: str, requirements: tuple[str, ...], lock: str) -> None:
    environment = await _locked(session, name)
    digest = hashlib.sha256("\n".join([*requirements, lock]).encode()).hexdigest()
    ours = (EnvironmentVersionTable.environment_id == environment.id, EnvironmentVersionTable.content_digest == digest)
    if await session.scalar(select(func.count()).where(*ours)):
        return
    environment.last_version += 1
    session.add(
        EnvironmentVersionTable(
            environment_id=environment.id,
            version=environment.last_version,
            content_digest=digest,
            definition={"pip_requirements": "\n".join(requirements), "environment_variables": {}},
            python_version=ANY_PYTHON,
            requirements=list(requirements),
            lock=lock,
            lock_digest=lock_digest(lock),
            created_by="keelway",
        )
    )
    await session.flush()


async def _locked(session: AsyncSession, name: str) -> EnvironmentTable:
    await session.execute(
        insert(EnvironmentTable).values(workspace_id=None, name=name, last_version=0).on_conflict_do_nothing()
    )
    row = await session.scalar(
        select(EnvironmentTable)
        .where(EnvironmentTable.workspace_id.is_(None), EnvironmentTable.name == name)
        .with_for_update()
    )
    assert row is not None
    return row


def write_locks() -> None:
    """Resolve all of them anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, requirements in CURATED.items():
        lines = "\n".join([*requirements, *resolver.runtime_requirements()])
        command = [
            uv.find_uv_bin(), "pip", "compile", "-", "--universal", "--python-version", OLDEST_PYTHON, "--quiet",
            "--generate-hashes", "--no-header", "--no-annotate", "--no-build", "--no-config",
        ]  # fmt: skip
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd="/")
        lock_file(name).write_text(done.stdout, encoding="utf-8")
        sys.stdout.write(f"{lock_file(name)}\n")


if __name__ == "__main__":
    write_locks()
