"""What the distribution promises: it stands alone, and its wheel is the same each time."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[3] / "runtime"


def test_it_imports_nothing_but_its_dependencies():
    loaded = subprocess.run(
        [sys.executable, "-c", "import keelway_runtime.__main__, sys; print(*{m.split('.')[0] for m in sys.modules})"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    foreign = {"keelway", "keelway_api", "keelway_workers", "numpy", "pandas", "pydantic", "inference_schema", "wrapt"}
    assert not foreign & set(loaded)


def test_the_wheel_is_the_same_bytes_each_time(tmp_path):
    pytest.importorskip("hatchling")

    digests = {wheel_digest(tmp_path / "first"), wheel_digest(tmp_path / "second")}

    assert len(digests) == 1


def wheel_digest(folder):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=RUNTIME, check=True, capture_output=True)
    [wheel] = folder.glob("keelway_runtime-*.whl")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()
