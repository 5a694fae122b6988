"""Bytecode for an image, compiled by the image's own Python in a container, once per package and kept on the node."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from keelway_workers.failures import WorkFailed
from keelway_workers.images.context import ContextTar
from keelway_workers.images.engine import Engine
from keelway_workers.images.python import ImagePython
from keelway_workers.node_dir import NodeDir, used

PROGRAM = Path(__file__).with_name("compile_program.py")
INSIDE = "keelway"


class Bytecode:
    """Compiles with the Python of one image."""

    def __init__(self, engine: Engine, node: NodeDir, image: str, check: Callable[[], None]) -> None:
        self._engine, self._node, self._image, self._check = engine, node, image, check

    def add(self, packages: Mapping[str, list[Path]], root: Path, place: str, python: ImagePython) -> None:
        """Put `__pycache__` folders under `root`, which will be at `place` in the image.

        `packages` gives each package's Python files, relative to `root`. Only those of which this node keeps none are
        compiled.
        """
        kept = {name: self._kept(files, root, place, python) for name, files in packages.items()}
        wanted = {name: files for name, files in packages.items() if files and not kept[name].is_file()}
        if wanted:
            self._compile(wanted, kept, root, place, python)
        for path in set(kept.values()):
            if path.is_file():
                with tarfile.open(path) as tar:
                    tar.extractall(root, filter="data")

    def _kept(self, files: Sequence[Path], root: Path, place: str, python: ImagePython) -> Path:
        """By the sources' own bytes, as Python takes this bytecode without a look at them.

        And by the image whose Python compiled it: somebody's image may have a Python that compiles what it likes.
        """
        hashed = hashlib.sha256(PROGRAM.read_bytes() + f"{self._image} {place} {python.bytecode}\n".encode())
        for path in files:
            source = hashlib.sha256((root / path).read_bytes()).hexdigest()
            hashed.update(f"{path.as_posix()} {source}\n".encode())
        return used(self._node.bytecode / f"{hashed.hexdigest()}.tar")

    def _compile(
        self, wanted: Mapping[str, list[Path]], kept: Mapping[str, Path], root: Path, place: str, python: ImagePython
    ) -> None:
        with self._node.scratch() as scratch:
            names = list(wanted)
            context = ContextTar(scratch / "sources.tar", self._check)
            context.file(f"{INSIDE}/compile.py", PROGRAM)
            for number, name in enumerate(names):
                for path in wanted[name]:
                    context.file(f"{INSIDE}/in/{number}/{path.as_posix()}", root / path)
            context.close()
            ran = self._engine.run(
                self._image,
                [python.home, "-I", f"/{INSIDE}/compile.py", place],
                files=(scratch / "sources.tar", "/"),
                take=(f"/{INSIDE}/out", scratch / "compiled.tar"),
            )
            if ran is None or ran.exit_code != 0:
                said = ran.output.splitlines() if ran else []
                raise WorkFailed("image-build-failed", "the image's Python could not compile", log_tail=said)
            self._keep(scratch, names, kept)

    def _keep(self, scratch: Path, names: list[str], kept: Mapping[str, Path]) -> None:
        """Sort what was compiled into a tar for each package, put into place once it is whole."""
        tars = [ContextTar(scratch / f"{number}.tar", self._check) for number in range(len(names))]
        with tarfile.open(scratch / "compiled.tar") as compiled:
            for member in sorted(compiled, key=lambda member: member.name):
                _, number, inside = (*member.name.split("/", 2), "", "")[:3]
                data = compiled.extractfile(member) if member.isfile() else None
                if data is not None and number.isdecimal() and int(number) < len(tars):
                    tars[int(number)].bytes(inside, data.read())
        for number, tar in enumerate(tars):
            tar.close()
            (scratch / f"{number}.tar").rename(kept[names[number]])
