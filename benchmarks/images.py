"""Images of an environment, beside a hand-written Dockerfile with pip, on the same engine and base: `python -m
benchmarks.images BASE_IMAGE`.

The base must have Python with venv and pip (`make base-image`). pip gets a cache of its downloads by a local index of
wheels, as uv has one: nothing is fetched while the clock runs. MLflow's and BentoML's own commands take no base image.
"""

from __future__ import annotations

import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uv

from benchmarks.table import Row, print_table
from benchmarks.world import World
from keelway import Client
from keelway.contracts.operations import Operation
from keelway.errors import raise_unless_succeeded

BASE = "keelway-base:bookworm"
PACKAGES = ("numpy==2.2.6", "scikit-learn==1.7.2")
ADDED = "humanize==4.12.3"
ROUNDS = 3
DOCKERFILE = """\
FROM {base}
RUN python3 -m venv /opt/env && /opt/env/bin/pip install --no-cache-dir --index-url {index} --no-index \\
    --find-links {index} {packages} && echo {unique}
"""


def main() -> int:
    """Measure and print."""
    print_table(measure(sys.argv[1] if len(sys.argv) > 1 else BASE))
    return 0


def missing(base: str = BASE) -> str:
    """Why this cannot be measured here, or nothing."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    found = subprocess.run(["docker", "image", "inspect", base], capture_output=True, text=True, check=False)
    return f"no engine with {base}, which make base-image makes ({found.stderr.strip()})" if found.returncode else ""


def measure(base: str = BASE) -> list[Row]:
    """On a stack of its own."""
    with tempfile.TemporaryDirectory(prefix="keelway-bench-") as name:
        folder = Path(name)
        world = World(folder)
        world.start()
        try:
            with world.client() as client, _index(folder / "wheels") as index:
                return _rows(client, folder, base, index)
        finally:
            world.stop()
            _forget()


def _rows(client: Client, folder: Path, plain: str, index: str) -> list[Row]:
    first: list[float] = []
    whole: list[float] = []
    by_pip: list[float] = []
    again: list[float] = []
    added: list[float] = []
    size = 0
    for number in range(ROUNDS + 1):  # the first fills the caches of downloads
        base = _own(plain, folder)
        _clear(folder)
        name = f"bench-{number}"
        client.environments.register(name, pip_requirements=list(PACKAGES), base_image=base)
        took, operation = _built(client, name)
        pip_s = _by_pip(folder, base, index)
        again_s, _ = _built(client, name)
        client.environments.register(name, pip_requirements=[*PACKAGES, ADDED], base_image=base)
        _, more = _built(client, name)
        if number:
            first.append(_step_s(operation, "Building the image"))
            whole.append(took)
            by_pip.append(pip_s)
            again.append(again_s)
            added.append(_step_s(more, "Building the image"))
        size = (operation.result or {})["size_bytes"]
    expected = _size(plain) + _unpacked(client, folder, f"bench-{ROUNDS}:1")
    ratio = f"{_median(by_pip) / _median(first):.1f}x"
    return [
        Row("first build, downloads cached", _shown(first), "half of pip's", f"{_shown(by_pip)} (pip)", ratio),
        Row("the same, with its files in the object store", _shown(whole), "", f"{_shown(by_pip)} (pip)"),
        Row("unchanged identity, POST to succeeded", _shown(again), "1 s"),
        Row("one requirement more", _shown(added)),
        Row(
            "size of the image",
            f"{size:,} bytes",
            "+ 5 %",
            f"{expected:,} bytes (base + lock)",
            f"{size / expected:.3f}",
        ),
    ]


def _built(client: Client, name: str) -> tuple[float, Operation]:
    started = time.perf_counter()
    operation = client.environments.build(name, target="docker")
    ended = raise_unless_succeeded(client.operations.wait(operation.id, 600))
    return time.perf_counter() - started, ended


def _step_s(operation: Operation, name: str) -> float:
    step = next(step for step in operation.steps if step.name == name)
    assert step.ended_at is not None
    return (step.ended_at - step.started_at).total_seconds()


def _by_pip(folder: Path, base: str, index: str) -> float:
    context = folder / f"context-{uuid.uuid4().hex}"
    context.mkdir()
    text = DOCKERFILE.format(base=base, index=index, packages=" ".join(PACKAGES), unique=uuid.uuid4().hex)
    (context / "Dockerfile").write_text(text)
    started = time.perf_counter()
    command = ["docker", "build", "--network", "host", "--quiet", str(context)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


@contextmanager
def _index(folder: Path) -> Iterator[str]:
    """A server of the wheels that pip installs."""
    words = ("tool", "run", "--quiet", "pip", "download", "--quiet", "--dest", str(folder), *PACKAGES)
    subprocess.run([uv.find_uv_bin(), *words], check=True)
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def _own(base: str, folder: Path) -> str:
    """The base with a label of its own: to engine, node and object store one that was never built on."""
    context = folder / f"base-{uuid.uuid4().hex}"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {base}\nLABEL benchmark={uuid.uuid4().hex}\n")
    name = f"keelway-benchmark-base:{uuid.uuid4().hex[:12]}"
    subprocess.run(["docker", "build", "--quiet", "--tag", name, str(context)], check=True, capture_output=True)
    return name


def _forget() -> None:
    """Have the engine forget the bases, and what was built on them: they have the label from there."""
    listed = ["docker", "image", "ls", "--all", "--quiet", "--filter", "label=benchmark"]
    found = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    if found:
        subprocess.run(["docker", "image", "rm", "--force", *set(found)], check=False, capture_output=True)


def _clear(folder: Path) -> None:
    """Have the node forget what it made for images; downloads stay."""
    for name in ("images", "bytecode"):
        for path in (folder / "data" / "node" / name).glob("*"):
            subprocess.run(["rm", "-rf", str(path)], check=True)


def _size(image: str) -> int:
    command = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _unpacked(client: Client, folder: Path, environment: str) -> int:
    """What the files of a lock take, as an installer lays them out, without bytecode."""
    lock, target = folder / "lock.txt", folder / "unpacked"
    lock.write_text(client.environments.lock(environment).requirements)
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--target", str(target), "-r", str(lock)]
    subprocess.run([*command, "--python", sys.executable], check=True)
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _shown(values: list[float]) -> str:
    return f"{_median(values):.1f} s ({min(values):.1f} to {max(values):.1f}, n={len(values)})"


if __name__ == "__main__":
    sys.exit(main())
