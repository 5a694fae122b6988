"""Wheels made on the spot."""

from __future__ import annotations

import io
import zipfile


def wheel(name: str, version: str = "1.0", *requires: str, text: str | None = None, module: str | None = None) -> bytes:
    """A wheel with one module that knows its version. `text` stands in for its METADATA, `module` for the module."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    metadata = text if text is not None else f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    files = {
        f"{name}.py": (module or f"version = {version!r}\n").encode(),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for path, data in files.items():
            made.writestr(zipfile.ZipInfo(path), data)
    return packed.getvalue()


def file_name(name: str, version: str = "1.0") -> str:
    """What such a wheel is called."""
    return f"{name}-{version}-py3-none-any.whl"
