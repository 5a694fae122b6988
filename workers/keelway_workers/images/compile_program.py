"""Run in a container of the base image: compile /keelway/in to /keelway/out, with the Python that will read it.

Python 3.9 and its standard library must do.
"""

import contextlib
import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path

IN, OUT = "/keelway/in", "/keelway/out"


def compile_one(source):
    """Compile one file; one that is no Python of this version stays as it is."""
    _, _, inside = source[len(IN) + 1 :].partition("/")
    target = OUT + "/" + cache_from_source(source[len(IN) + 1 :])
    with contextlib.suppress(py_compile.PyCompileError, ValueError, RecursionError, MemoryError):
        py_compile.compile(
            source,
            cfile=target,
            dfile=sys.argv[1] + "/" + inside,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def main():
    """Compile everything, several files at a time."""
    Path(OUT).mkdir(exist_ok=True)
    sources = [str(path) for path in Path(IN).rglob("*.py")]
    with ProcessPoolExecutor() as pool:
        list(pool.map(compile_one, sorted(sources), chunksize=32))


if __name__ == "__main__":
    main()
