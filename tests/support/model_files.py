"""Model files, honest and hostile, made byte by byte or by the libraries themselves. None is ever loaded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy
from sklearn.linear_model import Ridge


class Runs:
    """Pickled: loading it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


def safetensors(data: bytes = b"\0" * 16, **header: Any) -> bytes:
    """One tensor of four floats, unless said otherwise."""
    said = header or {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    text = json.dumps({"__metadata__": {"format": "pt"}, **said}).encode()
    return struct.pack("<Q", len(text)) + text + data


def field(number: int, payload: bytes | int) -> bytes:
    """A field of protobuf."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    """A number of protobuf."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def onnx(*, location: str | None = None, domain: str = "") -> bytes:
    """A graph of one node and one tensor, whose data may lie in another file."""
    entry = field(13, field(1, b"location") + field(2, location.encode())) if location else field(9, b"\0" * 64)
    tensor = field(1, 16) + field(2, 1) + field(8, b"w") + entry
    node = field(1, b"x") + field(2, b"y") + field(4, b"Relu") + (field(7, domain.encode()) if domain else b"")
    return (
        field(1, 8)
        + field(2, b"pytorch")
        + field(7, field(1, node) + field(2, b"g") + field(5, tensor))
        + field(8, field(2, 17))
    )


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    """A tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_of(name: str, data: bytes, **said: Any) -> bytes:
    """A tar of one member that is said to be whatever."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        for key, value in said.items():
            setattr(info, key, value)
        info.size = len(data) if info.isreg() else 0
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(members: list[tuple[str, bytes] | tuple[str, bytes, int]]) -> bytes:
    """A zip of these members, with a mode of Unix where there is one; names may be the same."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there already
        for name, data, *mode in members:
            info = zipfile.ZipInfo()
            info.filename = name  # the constructor cuts off what it does not like
            info.create_system = 3
            info.external_attr = (mode[0] if mode else 0o600) << 16
            archive.writestr(info, data)
    return out.getvalue()


def crowded_zip(members: int) -> bytes:
    """A zip with so many members, all of them the same empty one."""
    name = b"m"
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    size = len(entry) * members
    return local + entry * members + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, size, len(local), 0)


def zeros_gz(size: int) -> bytes:
    """Zeros, compressed without being held."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as stream:
        for _ in range(size // 2**20):
            stream.write(bytes(2**20))
    return out.getvalue()


def numpy_file(array: Any) -> bytes:
    """What numpy.save writes."""
    out = io.BytesIO()
    numpy.save(out, array, allow_pickle=True)
    return out.getvalue()


def keras(config: dict[str, Any]) -> bytes:
    """A .keras archive."""
    return zipped(
        {"metadata.json": b"{}", "config.json": json.dumps(config).encode(), "model.weights.h5": b"\x89HDF\r\n\x1a\n"}
    )


def ridge() -> Ridge:
    """A fitted model."""
    return Ridge().fit(numpy.arange(2000.0).reshape(100, 20), numpy.arange(100.0))


def joblib_file(folder: Path, *, compress: Any = 0) -> bytes:
    """What joblib.dump writes."""
    path = folder / "model.joblib"
    joblib.dump(ridge(), path, compress=compress)
    return path.read_bytes()


XGBOOST = json.dumps({"learner": {"gradient_booster": {"model": {}}, "learner_model_param": {}}, "version": [3, 0, 0]})
UBJ = b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x05trees[$d#L\0\0\0\0\0\0\0\x02" + b"\0" * 8 + b"}}"
LIGHTGBM = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n\nTree=0\nnum_leaves=2\n"
CATBOOST = json.dumps({"oblivious_trees": [], "features_info": {}, "model_info": {}})


def bypasses(canary: Path) -> dict[str, bytes]:
    """Files that run `touch CANARY`, or read it, when they are loaded: plain, or hidden as scanners were got past."""
    command = f"touch {canary}"
    text = command.encode()
    plain = pickle.dumps(Runs(command), protocol=2)
    hostile_zip = bytearray(zipped({"archive/data.pkl": plain, "archive/version": b"3"}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # says "encrypted", which readers in C ignore
        hostile_zip[hostile_zip.find(mark) + at] |= 1
    nested = zipped({"inner.zip": zipped({"deep.tar": tarred({"m.pkl": plain})})})
    return {
        "plain.pkl": plain,
        "protocol0.pkl": pickle.dumps(Runs(command), protocol=0),
        "protocol4.pkl": pickle.dumps(Runs(command), protocol=4),
        "inst.pkl": b"(S'" + text + b"'\nios\nsystem\n.",
        "protoless.pkl": b"cos\nsystem\n(S'" + text + b"'\ntR.",
        "memo.pkl": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93\x8c"
        + bytes([len(text)])
        + text
        + b"\x85R.",
        "getattr.pkl": b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'"
        + text
        + b"'\ntR.",
        "pip.pkl": b"cpip\nmain\n((lS'install'\naS'./evil'\natR.",
        "resolve.pkl": b"cpkgutil\nresolve_name\n(S'os:system'\ntR(S'" + text + b"'\ntR.",
        "truncated.pkl": plain[:-1],
        "garbage-behind.pkl": plain[:-1] + b"\xff\xff\xff",
        "wrong-extension.safetensors": plain,
        "data.json": plain,
        "notes.txt": b"cos\nsystem\n(S'" + text + b"'\ntR.",
        "model.pkl.gz": gzip.compress(plain),
        "model.pkl.bz2": bz2.compress(plain),
        "model.pkl.z": zlib.compress(plain),
        "nested.zip": nested,
        "flagged.pt": bytes(hostile_zip),
        "objects.npy": numpy_file(numpy.array([Runs(command)], dtype=object)),
        "objects.npz": zipped({"a.npy": numpy_file(numpy.array([Runs(command)], dtype=object))}),
        "lambda.keras": keras({"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}}),
        "foreign.keras": keras({"module": "os", "class_name": "system", "config": {}}),
        "outside.onnx": onnx(location="../../canary"),
        "polyglot.safetensors": safetensors(
            zipped({"data.pkl": plain}),
            w={
                "dtype": "U8",
                "shape": [len(zipped({"data.pkl": plain}))],
                "data_offsets": [0, len(zipped({"data.pkl": plain}))],
            },
        ),
    }
