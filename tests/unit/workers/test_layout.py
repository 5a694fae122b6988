"""The blob cache and the app roots that are laid out from it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from keelway.contracts.services import ModelFiles
from keelway.errors import CorruptBytes
from keelway_workers.failures import WorkFailed, WorkStopped
from keelway_workers.layout import lay_out
from keelway_workers.node_dir import lock, used
from tests.unit.workers.plane import digest, replica_spec


def go_on() -> None:
    """Nobody wants this work to stop."""


@pytest.fixture
def spec(plane, environment):
    return replica_spec(plane, environment)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "app"


def test_models_and_source_lie_where_a_script_looks(root, spec, node):
    lay_out(root, spec, node.cache, check=go_on)

    assert (root / "azureml-models/ridge/3/model.txt").read_bytes() == b"weights"
    assert (root / "source/score.py").is_file()


def test_each_blob_is_downloaded_once(root, spec, node, plane):
    lay_out(root, spec, node.cache, check=go_on)
    lay_out(root, spec, node.cache, check=go_on)

    assert sorted(plane.downloads) == sorted(plane.blobs_by_digest)


def test_a_fresh_root_has_nothing_of_the_one_before(root, spec, node):
    lay_out(root, spec, node.cache, check=go_on)
    (root / "source" / "left_behind.py").touch()

    lay_out(root, spec, node.cache, check=go_on)

    assert not (root / "source" / "left_behind.py").exists()


def test_a_flipped_byte_in_the_cache_is_found_and_fetched_again(root, spec, node, plane):
    lay_out(root, spec, node.cache, check=go_on)
    blob = node.dir.blob(digest(b"weights"))
    blob.chmod(0o600)
    blob.write_bytes(b"weightz")

    lay_out(root, spec, node.cache, check=go_on)

    assert (root / "azureml-models/ridge/3/model.txt").read_bytes() == b"weights"
    assert plane.downloads.count(digest(b"weights")) == 2


def test_bytes_that_stay_damaged_are_never_laid_out(root, spec, node, plane):
    plane.blobs_by_digest[digest(b"weights")] = b"weightz"

    with pytest.raises(WorkFailed) as failed:
        lay_out(root, spec, node.cache, check=go_on)

    assert failed.value.code == "damaged-bytes"
    assert not (root / "azureml-models/ridge/3/model.txt").exists()


def test_a_store_that_lost_the_bytes_is_named(root, spec, node, monkeypatch):
    def corrupt(sha256, to, *, progress):
        raise CorruptBytes(status=500, type="corrupt-bytes", title="Stored bytes are damaged", detail="")

    monkeypatch.setattr(node.cache, "_download", corrupt)

    with pytest.raises(WorkFailed) as failed:
        lay_out(root, spec, node.cache, check=go_on)

    assert failed.value.code == "damaged-bytes"


def test_a_script_cannot_change_the_cache(root, spec, node):
    lay_out(root, spec, node.cache, check=go_on)

    (root / "azureml-models/ridge/3/model.txt").write_bytes(b"changed")

    assert node.dir.blob(digest(b"weights")).read_bytes() == b"weights"


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "a\\b", "a//b", "."])
def test_a_path_that_leaves_the_root_is_refused(root, spec, node, path):
    spec.snapshot_files[0].path = path

    with pytest.raises(WorkFailed) as failed:
        lay_out(root, spec, node.cache, check=go_on)

    assert failed.value.code == "unsafe-path"
    assert not (root.parent / "outside").exists()


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden"])
def test_a_model_name_that_is_no_folder_is_refused(root, spec, node, name):
    spec.models.append(ModelFiles(name=name, version=1, digest="0" * 64, files=[]))

    with pytest.raises(WorkFailed) as failed:
        lay_out(root, spec, node.cache, check=go_on)

    assert failed.value.code == "unsafe-path"


@pytest.mark.parametrize("name", ["..", "a/b", "", ".x"])
def test_a_replica_name_that_is_no_folder_is_refused(node, name):
    with pytest.raises(ValueError, match="no name for a replica"):
        node.dir.replica(name)


def test_a_full_disk_is_named_and_leaves_no_part_behind(root, spec, node, monkeypatch):
    def full(sha256, to, *, progress):
        to.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(node.cache, "_download", full)

    with pytest.raises(WorkFailed) as failed:
        lay_out(root, spec, node.cache, check=go_on)

    assert failed.value.code == "disk-full"
    assert not list(node.dir.tmp.iterdir())


def test_a_sweep_removes_what_a_killed_process_left_and_nothing_that_is_in_use(node):
    program = (
        "import os, pathlib, sys; from keelway_workers.node_dir import NodeDir\n"
        "with NodeDir(pathlib.Path(sys.argv[1])).scratch() as scratch:\n"
        "    (scratch / 'blob').write_bytes(b'half'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(node.dir.root)], check=False)
    (node.dir.tmp / "removed-1").mkdir()
    (left,) = [path for path in node.dir.tmp.glob("scratch-*") if path.is_dir()]

    with node.dir.scratch() as ours:
        node.dir.sweep_tmp()

        assert ours.is_dir()
        assert not left.exists()
        assert not (node.dir.tmp / "removed-1").exists()
    assert not list(node.dir.tmp.iterdir())


def test_parts_of_images_that_no_build_has_used_for_a_week_go_and_others_stay(node):
    week_ago = time.time() - 7 * 86_400 - 1
    kept = {}
    for name in ("unused", "in-use", "being-made"):
        kept[name] = (node.dir.images / name, node.dir.bytecode / f"{name}.tar")
        kept[name][0].mkdir()
        (kept[name][0] / "00-numpy.tar").write_bytes(b"layer")
        kept[name][1].write_bytes(b"tar")
        for path in kept[name]:
            os.utime(path, (week_ago, week_ago))
    for path in (*kept["in-use"], kept["being-made"][1]):
        assert used(path) == path

    with lock(node.dir.image_lock("being-made"), wait=False):
        node.dir.sweep_images()

    assert {name: [path.exists() for path in paths] for name, paths in kept.items()} == {
        "unused": [False, False],
        "in-use": [True, True],
        "being-made": [True, True],
    }


def test_a_lay_out_that_is_told_to_stop_leaves_nothing(root, spec, node):
    def stop_while_copying() -> None:
        if (root / "source/score.py").exists():  # files come in any order: there may be no later look than its own
            raise WorkStopped

    with pytest.raises(WorkStopped):
        lay_out(root, spec, node.cache, check=stop_while_copying)

    assert not root.exists()
