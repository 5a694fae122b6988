import os

import pytest

from keelway_standalone.errors import Refused
from keelway_standalone.layout import Layout, default_data_dir
from keelway_standalone.lock import holder, locked


def test_the_data_dir_follows_keelway_data_dir_then_xdg_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("KEELWAY_DATA_DIR", raising=False)
    assert default_data_dir() == tmp_path / ".local/share/keelway"

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert default_data_dir() == tmp_path / "xdg/keelway"

    monkeypatch.setenv("KEELWAY_DATA_DIR", str(tmp_path / "here"))
    assert default_data_dir() == tmp_path / "here"


def test_every_folder_may_be_entered_by_its_owner_only(tmp_path):
    layout = Layout.at(tmp_path / "data")

    layout.make()

    assert {folder.stat().st_mode & 0o777 for folder in layout.folders} == {0o700}


def test_a_folder_that_holds_other_things_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    tmp_path.chmod(0o755)

    with pytest.raises(Refused, match="holds other things"):
        Layout.at(tmp_path).make()

    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "data").write_text("")

    with pytest.raises(Refused, match="not a folder"):
        Layout.at(tmp_path / "data").make()


def test_a_second_holder_of_the_lock_is_refused_and_told_the_pid(tmp_path):
    path = tmp_path / "lock"

    with locked(path), pytest.raises(Refused, match=f"already running.*pid {os.getpid()}"), locked(path):
        pass


def test_the_lock_is_free_again_afterwards(tmp_path):
    path = tmp_path / "lock"
    assert holder(path) is None

    with locked(path):
        assert holder(path) == os.getpid()

    assert holder(path) is None
