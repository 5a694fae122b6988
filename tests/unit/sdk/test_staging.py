"""Staging folders that somebody else made in a target that many write to: nothing of them is trusted."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from pathlib import Path

import pytest

from keelway import downloads
from keelway.errors import DamagedDownload
from tests.unit.sdk.samples import entry
from tests.unit.sdk.test_downloads import CONTENT, RANGE, hold_large
from tests.unit.sdk.test_models import VERSIONS, hold
from tests.unit.sdk.wire import Answer, Wire

A_DAY_AND_MORE_S = 25 * 3600


@pytest.fixture
def staged(wire, client, tmp_path) -> Path:
    """The folder in which the next download of `held` comes together: anybody can find out its name."""
    hold_large(wire)
    (tmp_path / "before").mkdir()
    names: set[str] = set()

    def look(*_: object) -> None:
        names.update(one.name for one in (tmp_path / "before").iterdir() if one.name.startswith(".keelway"))

    client.models.download("ridge", 1, tmp_path / "before", progress=look)
    (name,) = names
    (tmp_path / "to").mkdir()
    return tmp_path / "to" / name


@pytest.fixture(autouse=True)
def _in_ranges(monkeypatch):
    monkeypatch.setattr(downloads, "RANGE_BYTES", RANGE)


def planted(folder: Path, mode: int) -> Path:
    """A staging folder that somebody else made."""
    (folder / "files" / "mdl").mkdir(parents=True)
    (folder / "parts").mkdir()
    folder.chmod(mode)
    return folder


@pytest.fixture(params=["open to others", "of another user"])
def plant(request, staged, monkeypatch) -> Path:
    if request.param == "of another user":
        folder = planted(staged, 0o700)
        monkeypatch.setattr(os, "geteuid", lambda uid=os.geteuid(): uid + 1)
        return folder
    return planted(staged, 0o777)


def found_below(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_a_planted_file_is_not_published(wire, client, tmp_path, plant):
    (plant / "files" / "mdl" / "__init__.py").write_text("import os")

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert found_below(path) == {"big.bin", "small.txt"}


def test_a_planted_link_takes_no_file_outside_the_target(wire, client, tmp_path, plant):
    (tmp_path / "outside").mkdir()
    (plant / "files" / "mdl").rmdir()
    (plant / "files" / "mdl").symlink_to(tmp_path / "outside")

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert not path.is_symlink()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_planted_link_instead_of_a_part_costs_no_file_of_the_victim(wire, client, tmp_path, plant):
    victim = tmp_path / "victim"
    victim.write_text("dear")
    name = hashlib.sha256(os.fsencode(plant / "files" / "mdl" / "big.bin")).hexdigest()
    (plant / "parts" / f"{name}.ranges").symlink_to(victim)

    client.models.download("ridge", 1, tmp_path / "to")

    assert victim.read_text() == "dear"


def test_what_is_not_listed_is_not_published_even_from_a_folder_of_our_own(wire, client, tmp_path, staged):
    (tmp_path / "outside").mkdir()
    own = planted(staged, 0o700)
    (own / "files" / "mdl" / "__init__.py").write_text("import os")
    (own / "files" / "mdl" / "small.txt").symlink_to(tmp_path / "outside" / "file")
    (own / "files" / "other").mkdir()
    (own / "files" / "other" / "x").write_text("x")

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert found_below(tmp_path / "to") == {"mdl/big.bin", "mdl/small.txt"}
    assert not (path / "small.txt").is_symlink()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_instead_of_a_part_is_not_followed_even_in_a_folder_of_our_own(wire, client, tmp_path, staged):
    victim = tmp_path / "victim"
    victim.write_text("dear")
    own = planted(staged, 0o700)
    name = hashlib.sha256(os.fsencode(own / "files" / "mdl" / "big.bin")).hexdigest()
    (own / "parts" / f"{name}.ranges").symlink_to(victim)

    path = client.models.download("ridge", 1, tmp_path / "to")

    assert victim.read_text() == "dear"
    assert (path / "big.bin").read_bytes() == CONTENT


def test_a_staging_folder_is_closed_to_others(wire, client, tmp_path, staged):
    modes: set[int] = set()

    def look(_: str, done: int, __: int) -> None:
        if done:
            modes.add(staged.stat().st_mode & 0o777)

    client.models.download("ridge", 1, tmp_path / "to", progress=look)

    assert modes == {0o700}


def test_a_link_made_meanwhile_takes_no_file_outside_the_target(wire, client, tmp_path):
    hold(wire, {"mdl/a.txt": b"a", "mdl/sub/b.txt": b"b"})
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    (to / "mdl").mkdir(parents=True)

    def plant(_: str, done: int, __: int) -> None:
        if done and not (to / "mdl" / "sub").is_symlink():
            (to / "mdl" / "sub").symlink_to(outside)

    with pytest.raises(DamagedDownload, match="leads outside"):
        client.models.download("ridge", 1, to, exist_ok=True, progress=plant)
    assert list(outside.iterdir()) == []


def test_a_version_of_several_top_level_entries_is_refused_before_a_byte_is_fetched(wire, client, tmp_path):
    hold(wire, {"a.bin": b"a", "b.bin": b"b"})

    with pytest.raises(DamagedDownload, match="more than one"):
        client.models.download("ridge", 1, tmp_path / "to")
    assert not wire.of("GET", f"{VERSIONS}/1/files")
    assert list(tmp_path.iterdir()) == []


def left_over(target: Path, *, age_s: float) -> Path:
    folder = target / f".keelway-{os.urandom(16).hex()}.part"
    (folder / "parts").mkdir(parents=True)
    folder.chmod(0o700)
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


def test_old_folders_of_killed_processes_are_swept_away(wire, client, tmp_path):
    hold(wire, {"m.bin": b"x"})
    old, young = left_over(tmp_path, age_s=A_DAY_AND_MORE_S), left_over(tmp_path, age_s=60)
    in_use, strange = left_over(tmp_path, age_s=A_DAY_AND_MORE_S), left_over(tmp_path, age_s=A_DAY_AND_MORE_S)
    strange.chmod(0o777)
    held = os.open(in_use, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)

    client.models.download("ridge", 1, tmp_path)
    os.close(held)

    assert not old.exists()
    assert young.exists()
    assert in_use.exists()
    assert strange.exists()


def test_what_shows_is_on_the_disk(wire: Wire, client, tmp_path, monkeypatch):
    hold_large(wire)
    synced: set[int] = set()
    sync = os.fsync

    def remember(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)

    path = client.models.download("ridge", 1, tmp_path / "to")

    shown = [path / "big.bin", path / "small.txt", path, tmp_path / "to"]
    assert [one.name for one in shown if one.stat().st_ino not in synced] == []


def test_files_named_alike_in_two_versions_do_not_share_a_folder(wire, client, tmp_path):
    hold(wire, {}, listed=[entry("m.bin", b"old")])
    wire.on(f"GET {VERSIONS}/1/files/m.bin", Answer(200, b"new"))
    with pytest.raises(DamagedDownload):
        client.models.download("ridge", 1, tmp_path)
    hold(wire, {"m.bin": b"new"})

    assert client.models.download("ridge", 1, tmp_path).read_bytes() == b"new"
