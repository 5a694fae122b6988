"""A replica's log on disk, and on its way to the API."""

from __future__ import annotations

import pytest

from keelway.errors import NotFound
from keelway_workers import replica_log
from keelway_workers.log_shipping import LogShipping
from keelway_workers.replica_log import ReplicaLogFile, log_file, tail_of, telling_tail, whole_characters
from tests.unit.workers.plane import PROBLEM


@pytest.fixture
def folder(node):
    folder = node.dir.replica("one")
    folder.mkdir()
    return folder


@pytest.fixture
def shipping(plane, node):
    return LogShipping(plane, "here", node.dir)


def write(folder, text: str | bytes) -> None:
    with log_file(folder) as log:
        import os

        os.write(log, text.encode() if isinstance(text, str) else text)


def test_offsets_count_bytes_since_the_first_start(folder, shipping, plane):
    write(folder, "größe\n")
    shipping.turn()
    write(folder, "next\n")

    shipping.turn()

    assert plane.log_text["one"] == "größe\nnext\n"
    assert plane.log_offsets["one"] == [0, len("größe\n".encode())]


def test_nothing_is_lost_while_the_api_is_away(folder, shipping, plane):
    plane.is_away = True
    write(folder, "one\n")
    assert not shipping.turn()
    write(folder, "two\n")
    plane.is_away = False

    assert shipping.turn()

    assert plane.log_text["one"] == "one\ntwo\n"


def test_another_supervisor_goes_on_where_the_first_was(folder, shipping, plane, node):
    write(folder, "one\n")
    shipping.turn()
    write(folder, "two\n")

    LogShipping(plane, "here", node.dir).turn()

    assert plane.log_text["one"] == "one\ntwo\n"


def test_a_turn_has_its_limit(folder, shipping, plane):
    write(folder, "x" * 300_000)

    shipping.turn()
    assert len(plane.log_text["one"]) == replica_log.TURN_BYTES
    shipping.turn()

    assert len(plane.log_text["one"]) == 300_000


def test_a_long_log_is_rotated_and_sent_whole(folder, shipping, plane, monkeypatch):
    monkeypatch.setattr(replica_log, "ROTATE_AT", 1000)
    plane.is_away = True
    write(folder, "a" * 1500)
    shipping.turn()
    assert (folder / "log").stat().st_size == 0
    write(folder, "b" * 10)
    plane.is_away = False

    shipping.turn()
    shipping.turn()

    assert plane.log_text["one"] == "a" * 1500 + "b" * 10
    assert plane.log_offsets["one"] == [0, 1500]


def test_a_log_emptied_just_before_a_crash_is_taken_from_its_new_beginning(folder, shipping, plane, node):
    write(folder, "a" * 100)
    shipping.turn()
    (folder / "log").write_bytes(b"b" * 10)

    LogShipping(plane, "here", node.dir).turn()

    assert plane.log_text["one"] == "a" * 100 + "b" * 10


def test_an_unknown_replica_does_not_hold_up_the_others(folder, shipping, plane, node):
    node.dir.replica("two").mkdir()
    write(folder, "one\n")
    write(node.dir.replica("two"), "two\n")
    accept = plane._logs

    def refuse_one(name, logs):
        if any(log.replica == "one" for log in logs.logs):
            raise NotFound(**(PROBLEM | {"status": 404}))
        accept(name, logs)

    plane.nodes.logs = refuse_one

    assert shipping.turn()

    assert plane.log_text == {"two": "two\n"}


def test_a_character_is_never_cut_in_two():
    for length in range(1, len("aé€😀".encode()) + 1):
        whole_characters("aé€😀".encode()[:length]).decode()


def test_bytes_that_are_no_text_still_arrive(folder, shipping, plane):
    write(folder, b"\xff\x00\x80\x80\x80\x80\x80\n")

    shipping.turn()

    assert ReplicaLogFile(folder).next_piece(1000) is None
    assert "\0" not in plane.log_text["one"]


def test_a_tail_reaches_back_to_the_traceback(folder):
    write(folder, "early\nTraceback (most recent call last):\n" + "  line\n" * 80 + "ValueError\n" + "tree\n" * 20)

    assert len(tail_of(folder, 50)) == 50
    tail = telling_tail(folder, 50, at_most=200)
    assert tail[0] == "Traceback (most recent call last):"
    assert tail[-1] == "tree"
