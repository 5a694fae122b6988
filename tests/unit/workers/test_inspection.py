"""What files are told to be, by the inspecting child itself."""

from __future__ import annotations

import gzip
import os
import pickle
import stat
import tarfile
import threading
import time
from contextlib import contextmanager, suppress

import numpy
import psutil
import pytest

from keelway.contracts.safety import MAX_BLOB_FINDINGS, BlobFinding, InspectBlob, SafetyLabel, judged
from keelway_workers.failures import WorkStopped
from keelway_workers.inspection.parent import inspections
from keelway_workers.subtree import Subtree
from tests.support import model_files as make


def look(files, *, subtree=None, read=None, timeout_s=60):
    """Inspections by path, as a worker gets them of a child."""
    digests = {f"{number:064x}": path for number, path in enumerate(files)}
    blobs = [InspectBlob(sha256=digest, size_bytes=len(files[path])) for digest, path in digests.items()]

    def content(blob, offset, length):
        return files[digests[blob.sha256]][offset : offset + length]

    found = inspections(blobs, read=read or content, subtree=subtree or Subtree(), timeout_s=lambda: timeout_s)
    return {digests[one.sha256]: one for some in found for one in some}


def label(path, one):
    return judged([(path, one.kind, one.findings)]).label


def codes(one):
    return {finding.code for finding in one.findings}


INERT = {
    "model.safetensors": (make.safetensors(), "safetensors"),
    "model.onnx": (make.onnx(), "onnx"),
    "beside.onnx": (make.onnx(location="weights.bin"), "onnx"),
    "xgboost.json": (make.XGBOOST.encode(), "xgboost-json"),
    "xgboost.ubj": (make.UBJ, "xgboost-ubj"),
    "lightgbm.txt": (make.LIGHTGBM.encode(), "lightgbm"),
    "catboost.json": (make.CATBOOST.encode(), "catboost-json"),
    "config.json": (b'{"a": [1, 2]}', "json"),
    "README.md": ("# Ridge, für alle\n".encode(), "text"),
    "data.csv": (b"a,b\n1,2\n", "text"),
    "array.npy": (make.numpy_file(numpy.arange(10)), "numpy"),
    "arrays.npz": (
        make.zipped({"a.npy": make.numpy_file(numpy.arange(3)), "b.npy": make.numpy_file(numpy.ones(2))}),
        "npz",
    ),
    "picture.png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "image"),
    "empty": (b"", "empty"),
}


def test_data_and_models_without_code_are_inert():
    found = look({path: data for path, (data, _) in INERT.items()})

    assert {path: one.kind for path, one in found.items()} == {path: kind for path, (_, kind) in INERT.items()}
    assert {path for path, one in found.items() if label(path, one) is SafetyLabel.EXECUTABLE} == set()


EXECUTABLE = {
    "score.py": (b"print(1)\n", "text"),
    "no-extension": (b"print(1)\n", "text"),
    "run.txt": (b"#!/bin/sh\nls\n", "script"),
    "clean.pkl": (pickle.dumps({"a": 1}), "pickle"),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(60), "program"),
    "noise.bin": (bytes(range(256)) * 3, "unknown"),
    "archive.zip": (make.zipped({"a.txt": b"hello"}), "archive"),
    "archive.tar": (make.tarred({"a.txt": b"hello"}), "archive"),
    "old.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100) + b'{"class_name": "Lambda"}', "hdf5"),
    "cut.safetensors": (make.safetensors()[:-1], "unknown"),
    "longer.safetensors": (make.safetensors() + b"\0", "unknown"),
    "overlapping.safetensors": (
        make.safetensors(
            a={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            b={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        ),
        "unknown",
    ),
    "cut.onnx": (make.onnx()[:-1], "unknown"),
    "model.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(30), "compressed"),
}


def test_everything_else_is_executable():
    found = look({path: data for path, (data, _) in EXECUTABLE.items()})

    assert {path: one.kind for path, one in found.items()} == {path: kind for path, (_, kind) in EXECUTABLE.items()}
    assert {path for path, one in found.items() if label(path, one) is SafetyLabel.INERT} == set()


def test_whatever_gets_past_scanners_is_executable_and_never_runs(tmp_path):
    canary = tmp_path / "canary"
    files = make.bypasses(canary)

    found = look(files)

    assert len(files) >= 12
    assert {path for path, one in found.items() if label(path, one) is SafetyLabel.INERT} == set()
    assert not canary.exists()


def test_most_of_what_once_got_past_scanners_is_named(tmp_path):
    found = look(make.bypasses(tmp_path / "canary"))

    quiet = {path for path, one in found.items() if not any(f.severity == "danger" for f in one.findings)}
    assert quiet == {"polyglot.safetensors"}
    assert "two-formats" in codes(found["polyglot.safetensors"])
    assert codes(found["lambda.keras"]) >= {"keras-lambda"}
    assert codes(found["foreign.keras"]) >= {"keras-foreign-module"}
    assert codes(found["outside.onnx"]) == {"external-data-outside"}
    assert "posix.system" in found["plain.pkl"].findings[0].detail
    assert "inner.zip: deep.tar: m.pkl: posix.system" in found["nested.zip"].findings[0].detail


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_an_honest_joblib_file_shows_what_it_imports(tmp_path, compress):
    one = look({"m": make.joblib_file(tmp_path, compress=compress)})["m"]

    assert one.kind == ("compressed" if compress else "pickle")
    assert not [finding for finding in one.findings if finding.severity == "danger"]
    assert "sklearn.linear_model._ridge.Ridge" in " ".join(finding.detail for finding in one.findings)


def test_an_honest_pickle_has_nothing_to_warn_of():
    one = look({"m.pkl": pickle.dumps(make.ridge())})["m.pkl"]

    assert {finding.severity.value for finding in one.findings} == {"info"}


PACKED = {"zip": make.zipped, "tar": make.tarred}
FILLERS = {f"filler-{number:03}": bytes(range(256)) for number in range(80)}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_danger_behind_many_harmless_findings_is_told_and_those_left_out_are_counted(pack):
    archive = pack({**FILLERS, "last.pkl": pickle.dumps(make.Runs("ls"))})

    one, nested = (look({"m": data})["m"] for data in (archive, make.zipped({"inner": archive})))

    assert [finding.detail for finding in one.findings if finding.severity == "danger"] == ["last.pkl: posix.system"]
    assert [f.detail for f in nested.findings if f.severity == "danger"] == ["inner: last.pkl: posix.system"]
    for found in (one, nested):
        assert len(found.findings) == MAX_BLOB_FINDINGS
        assert (found.findings[-1].code, found.findings[-1].severity.value) == ("more-findings", "info")
        assert found.findings[-1].detail == "32 more that are not listed: 32 info"


def test_of_too_many_dangers_those_left_out_are_counted_as_dangers():
    dangers = {f"{number}.pkl": pickle.dumps(make.Runs("ls")) for number in range(60)}

    one = look({"m.zip": make.zipped(FILLERS | dangers)})["m.zip"]

    assert {finding.severity.value for finding in one.findings} == {"danger"}
    assert one.findings[-1].detail == "91 more that are not listed: 11 danger, 80 info"


def test_a_tar_that_breaks_off_behind_a_danger_tells_both():
    member = make.tarred({"m.pkl": pickle.dumps(make.Runs("ls"))})[: 2 * tarfile.BLOCKSIZE]
    name_of_the_next = tarfile.TarInfo("x" * 200).tobuf(tarfile.PAX_FORMAT)[: 2 * tarfile.BLOCKSIZE]

    one = look({"m.tar": member + name_of_the_next})["m.tar"]

    assert one.kind == "archive"
    assert codes(one) >= {"dangerous-import", "not-read-whole"}


def test_a_name_that_promises_something_else_is_told():
    found = judged([("model.safetensors", "pickle", []), ("model.safetensors", "safetensors", [])])

    assert [(finding.code, finding.severity.value) for finding in found.findings] == [("misleading-name", "warning")]


def test_yaml_is_inert_and_its_python_tags_are_told():
    one = look({"a.yaml": b"a: !!python/object/apply:os.system ['ls']\n"})["a.yaml"]

    assert codes(one) == {"yaml-python-tag"}
    assert label("a.yaml", one) is SafetyLabel.INERT


def test_a_danger_makes_even_an_inert_kind_executable():
    danger = BlobFinding(severity="danger", code="external-data-outside", detail="x")

    assert judged([("m.onnx", "onnx", [danger])]).label is SafetyLabel.EXECUTABLE
    assert judged([]).label is SafetyLabel.EXECUTABLE


BOMBS = {  # what they make of it, and the most MiB that it may take
    "two-of-100-mib.zip": (lambda: make.zipped({f"{n}.bin": bytes(100 * 2**20) for n in range(2)}), 320),
    "200000-members.zip": (lambda: make.crowded_zip(200_000), 320),
    "20000-members.tar": (lambda: make.tarred({f"{n}": b"" for n in range(20_000)}), 120),
    "200-mib.gz": (lambda: make.zeros_gz(200 * 2**20), 320),
    "100-mib.tar.gz": (lambda: gzip.compress(make.tarred({"a": bytes(100 * 2**20)})), 320),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_bounded_memory_and_time(name):
    make_bomb, most_mib = BOMBS[name]
    bomb = make_bomb()
    started = time.monotonic()

    with peak_of_children() as peak:
        one = look({name: bomb})[name]

    assert "not-read-whole" in codes(one)
    assert label(name, one) is SafetyLabel.EXECUTABLE
    assert 0 < max(peak) < most_mib * 2**20
    assert time.monotonic() - started < 30


@contextmanager
def peak_of_children():
    """Grows by the memory of the inspecting children whenever it is looked at."""
    found, ended = [0], threading.Event()

    def look_again():
        while not ended.wait(0.01):
            for child in inspecting_children():
                with suppress(psutil.Error):
                    found.append(child.memory_info().rss)

    thread = threading.Thread(target=look_again)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def test_containers_within_containers_are_opened_only_so_deep():
    nested = b"a"
    for _ in range(40):  # as one that unpacks to itself would go on
        nested = gzip.compress(nested)

    one = look({"m.gz": nested})["m.gz"]

    assert codes(one) == {"too-deep"}
    assert label("m.gz", one) is SafetyLabel.EXECUTABLE


def test_two_members_of_one_name_are_told():
    one = look({"m.zip": make.zip_of([("m.pkl", pickle.dumps(1)), ("m.pkl", pickle.dumps(2))])})["m.zip"]

    assert "twin-members" in codes(one)
    assert label("m.zip", one) is SafetyLabel.EXECUTABLE


TAR_TRAPS = {
    "up": {"name": "../canary"},
    "up-inside": {"name": "a/../../canary"},
    "absolute": {"name": "/canary"},
    "symlink": {"type": tarfile.SYMTYPE, "linkname": "/canary"},
    "symlink-up": {"type": tarfile.SYMTYPE, "linkname": "../canary"},
    "hardlink": {"type": tarfile.LNKTYPE, "linkname": "/canary"},
    "character-device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    "block-device": {"type": tarfile.BLKTYPE},
    "fifo": {"type": tarfile.FIFOTYPE},
}
ZIP_TRAPS = {
    "up": ("../canary", 0),
    "up-inside": ("a/../../canary", 0),
    "absolute": ("/canary", 0),
    "backslashes": ("..\\canary", 0),
    "drive": ("C:\\canary", 0),
    "symlink": ("link", stat.S_IFLNK | 0o777),
}


def test_links_devices_and_paths_that_lead_outside_are_told_and_not_followed(tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("as it was")
    here = str(canary)
    files = {
        f"{name}.tar": make.tar_of(
            **{"name": "m", "data": here.encode()} | {key: aim(it, here) for key, it in trap.items()}
        )
        for name, trap in TAR_TRAPS.items()
    }
    files |= {
        f"{name}.zip": make.zip_of([(aim(path, here), here.encode(), mode)]) for name, (path, mode) in ZIP_TRAPS.items()
    }

    found = look(files)

    assert {name for name, one in found.items() if "member-outside" not in codes(one)} == set()
    assert {name for name, one in found.items() if label(name, one) is not SafetyLabel.EXECUTABLE} == set()
    assert canary.read_text() == "as it was"
    assert [entry.name for entry in tmp_path.iterdir()] == ["canary"]


def aim(value, canary):
    return value.replace("/canary", canary) if isinstance(value, str) and value.startswith("/") else value


def test_a_link_that_is_written_through_is_not_followed(tmp_path):
    """The shape of CVE-2025-4517: a link out of the folder, then a member whose path goes through it."""
    out = tmp_path / "out"
    out.mkdir()
    tar = make.tar_of("link", b"", type=tarfile.SYMTYPE, linkname=str(out))[:512] + make.tar_of("link/planted", b"x")

    one = look({"m.tar": tar})["m.tar"]

    assert "member-outside" in codes(one)
    assert list(out.iterdir()) == []


def test_of_a_large_safetensors_file_the_head_and_the_end_are_read():
    size = 8 * 2**30
    header = make.safetensors(b"", w={"dtype": "U8", "shape": [size], "data_offsets": [0, size]})
    asked = []

    def read(blob, offset, length):
        asked.append(length)
        return (header[offset : offset + length] if offset < len(header) else b"").ljust(length, b"\0")

    blob = InspectBlob(sha256="0" * 64, size_bytes=len(header) + size)
    (found,) = [one for some in inspections([blob], read=read, subtree=Subtree(), timeout_s=lambda: 60) for one in some]

    assert found.kind == "safetensors"
    assert sum(asked) < 4 * 2**20


def inspecting_children():
    return [child for child in psutil.Process().children(recursive=True) if is_inspecting(child)]


def is_inspecting(process):
    """Other tests' children may be ending at this moment."""
    try:
        return "keelway_workers.inspection" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def test_a_child_that_is_killed_over_a_file_leaves_a_finding_and_the_others_are_inspected():
    files = {"a.json": b"{}", "killer": b"{}  ", "c.json": b"[]"}
    kills = 0

    def read(blob, offset, length):
        nonlocal kills
        if blob.size_bytes == 4:
            kills += 1
            for child in inspecting_children():
                child.kill()
                child.wait()
        return (b"{}" if blob.size_bytes == 2 else b"{}  ")[offset : offset + length]

    found = look(files, read=read)

    assert kills == 2
    assert {path: one.kind for path, one in found.items()} == {
        "a.json": "json", "killer": "not-inspectable", "c.json": "json",
    }  # fmt: skip
    assert codes(found["killer"]) == {"not-inspectable"}
    assert label("killer", found["killer"]) is SafetyLabel.EXECUTABLE


def test_a_child_that_is_killed_once_goes_on():
    killed = threading.Event()

    def read(blob, offset, length):
        if not killed.is_set():
            killed.set()
            for child in inspecting_children():
                child.kill()
                child.wait()
        return b"{}"

    assert look({"a.json": b"{}"}, read=read)["a.json"].kind == "json"


def test_the_child_has_no_secrets_and_ends_when_the_work_is_stopped(monkeypatch):
    monkeypatch.setenv("KEELWAY_WORKER_TOKEN", "canary-of-a-secret")
    subtree = Subtree()
    seen = []

    def read(blob, offset, length):
        seen.extend(" ".join(f"{k}={v}" for k, v in child.environ().items()) for child in inspecting_children())
        subtree.kill()
        return b"{}"

    with pytest.raises(WorkStopped):
        look({"a.json": b"{}"}, subtree=subtree, read=read)

    assert seen
    assert "canary-of-a-secret" not in "".join(seen)
    assert not inspecting_children()


def test_what_reading_raises_ends_the_inspection():
    def read(blob, offset, length):
        raise FileNotFoundError(os.strerror(2))

    with pytest.raises(FileNotFoundError):
        look({"a.json": b"{}"}, read=read)
