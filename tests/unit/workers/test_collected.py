"""What replicas collected, on its way from their spools to the API."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest

from keelway.contracts.collected import MAX_COLLECTED_BYTES, day_of, is_collected_file
from keelway.errors import DependencyAway, DigestMismatch, Forbidden, NotFound, TooLarge, Unreachable
from keelway_workers import collected
from keelway_workers.collected import CollectedShipping
from keelway_workers.failures import WorkStopped
from tests.unit.workers.plane import PROBLEM, replica_spec

NAME = "ridge-r1-0"
PLACE = ("ridge", "3", "inputs")


def file_name(number: int = 0) -> str:
    return f"inputs-20300102T030405Z-{number:08x}.csv"


class Received:
    """The API's side: what came, and what it says instead of taking it."""

    def __init__(self, plane) -> None:
        self.files: dict[tuple[str, ...], bytes] = {}
        self.asked = 0
        self.says: list[Exception] = []
        self.says_always: Exception | None = None
        self._plane = plane
        plane.nodes.send_collected = self._send

    def _send(self, node, replica, parts, content) -> None:
        self.asked += 1
        self._plane._here()
        if error := self.says.pop(0) if self.says else self.says_always:
            raise error
        self.files[(replica, *parts)] = content


def problem(cls: type, **fields):
    return cls(**PROBLEM | {"status": 404 if cls is NotFound else 409}, fields=fields)


@pytest.fixture
def received(plane):
    return Received(plane)


@pytest.fixture
def ending():
    return threading.Event()


@pytest.fixture
def shipping(plane, node, received, ending):
    return CollectedShipping(plane, "here", node.dir, ending)


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(collected, "LAST_PAUSE_S", 0.01)


def spool(node, name: str = NAME):
    folder = node.dir.replica(name) / collected.SPOOL
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def collect(node, *, number: int = 0, content: bytes = b"rows", name: str = NAME, suffix: str = ""):
    path = spool(node, name).joinpath(*PLACE, file_name(number) + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_closed_files_are_sent_and_removed(node, shipping, received):
    path, open_one = collect(node), collect(node, number=1, suffix=".77.part")

    assert shipping.turn()

    assert received.files == {(NAME, *PLACE, path.name): b"rows"}
    assert (path.exists(), open_one.exists()) == (False, True)


def test_what_is_no_file_of_ours_is_left_alone(node, shipping, received):
    folder = spool(node)
    others = [folder / "a.csv", folder / "ridge" / "3" / file_name(), folder / "x" / "3" / "inputs" / "other.csv"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    assert shipping.turn()

    assert received.asked == 0
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("says", [Unreachable("away"), problem(DependencyAway), problem(DigestMismatch)])
def test_files_wait_until_the_api_takes_them(node, shipping, received, says):
    path = collect(node)
    received.says = [says]

    assert not shipping.turn()
    assert path.exists()
    assert shipping.turn()

    assert list(received.files.values()) == [b"rows"]
    assert not path.exists()


@pytest.mark.parametrize("says", [problem(Forbidden), problem(NotFound, kind="path"), problem(NotFound)])
def test_a_wrong_token_or_an_older_api_loses_nothing(node, shipping, received, says):
    path = collect(node)
    received.says_always = says

    assert not shipping.turn()

    assert path.exists()


@pytest.mark.parametrize("says", [problem(NotFound, kind="replica"), problem(TooLarge)])
def test_what_never_will_be_taken_makes_way(node, shipping, received, says):
    first, second = collect(node), collect(node, number=1)
    received.says = [says]

    assert shipping.turn()

    assert list(received.files) == [(NAME, *PLACE, second.name)]
    assert not first.exists()


def test_one_replica_holds_up_no_other(node, shipping, received):
    for number in range(3 * collected.FILES_A_TURN):
        collect(node, number=number, name="a")
    collect(node, name="b")

    shipping.turn()

    assert sum(key[0] == "a" for key in received.files) == collected.FILES_A_TURN
    assert sum(key[0] == "b" for key in received.files) == 1


def test_a_replica_whose_files_are_refused_for_now_holds_up_no_other(node, shipping, received):
    collect(node, name="a")
    collect(node, name="b")
    received.says = [problem(Forbidden)]

    assert not shipping.turn()

    assert [key[0] for key in received.files] == ["b"]


@pytest.mark.timeout(20)
def test_links_pipes_and_giants_are_neither_followed_nor_sent(node, shipping, received, tmp_path):
    (tmp_path / "secret").write_text("token")
    link, pipe, giant = (collect(node, number=number) for number in range(3))
    link.unlink()
    link.symlink_to(tmp_path / "secret")
    pipe.unlink()
    os.mkfifo(pipe)
    os.truncate(giant, MAX_COLLECTED_BYTES + 1)
    good = collect(node, number=3)

    assert shipping.turn()

    assert list(received.files) == [(NAME, *PLACE, good.name)]
    assert (tmp_path / "secret").exists()
    assert not any(os.path.lexists(path) for path in (link, pipe, giant))


def test_folders_are_not_entered_through_links(node, shipping, received, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "inputs"
    elsewhere.mkdir(parents=True)
    (elsewhere / file_name()).write_text("not ours")
    (spool(node) / "ridge").mkdir()
    (spool(node) / "ridge" / "3").symlink_to(elsewhere.parent)

    assert shipping.turn()

    assert received.asked == 0


def test_the_last_files_are_sent_also_those_that_nobody_closed(node, shipping, received):
    for number in range(collected.FILES_A_TURN + 2):
        collect(node, number=number)
    collect(node, number=99, suffix=".77.part")

    shipping.last_files(NAME)

    assert len(received.files) == collected.FILES_A_TURN + 3
    assert (NAME, *PLACE, file_name(99)) in received.files


def test_the_last_files_wait_for_an_api_that_is_away(node, shipping, received, plane, soon):
    collect(node)
    plane.is_away = True
    sending = threading.Thread(target=shipping.last_files, args=[NAME])
    sending.start()
    while received.asked < 2 * collected.LAST_TRIES:
        time.sleep(0.01)

    plane.is_away = False
    sending.join(10)

    assert list(received.files.values()) == [b"rows"]


def test_the_last_files_do_not_wait_for_ever_for_an_api_that_answers(node, shipping, received, soon):
    collect(node)
    received.says_always = problem(DependencyAway)

    shipping.last_files(NAME)

    assert received.asked == collected.LAST_TRIES


def test_a_supervisor_that_ends_leaves_the_last_files_to_the_next(node, shipping, received, plane, ending):
    path = collect(node)
    plane.is_away = True
    threading.Timer(0.2, ending.set).start()

    with pytest.raises(WorkStopped):
        shipping.last_files(NAME)

    assert path.exists()


def test_a_replica_that_collected_nothing_has_nothing_to_send(node, shipping, received):
    shipping.last_files("nobody")
    assert shipping.turn()
    assert received.asked == 0


SCRIPT = f"""
import os, pathlib

def init():
    folder = os.environ.get("KEELWAY_COLLECT_DIR")
    if folder:
        place = pathlib.Path(folder, *{PLACE!r})
        place.mkdir(parents=True, exist_ok=True)
        for number, suffix in ((0, ""), (1, ".77.part")):
            if not list(place.glob(f"*{{number:08x}}*")):
                (place / (f"inputs-20300102T030405Z-{{number:08x}}.csv" + suffix)).write_text(str(number))

def run(raw):
    return os.environ.get("KEELWAY_COLLECT_DIR")
""".encode()


def eventually(condition, timeout_s: float = 20) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.02)


def test_a_replica_s_spool_is_emptied_while_it_runs_and_when_it_goes(plane, settings, environment, supervise, received):
    spec = replica_spec(plane, environment, script=SCRIPT).model_copy(update={"collects_data": True})
    plane.want(spec)
    supervise()
    plane.wait_for(NAME, "ready")
    eventually(lambda: received.files == {(NAME, *PLACE, file_name()): b"0"})
    folder = settings.node_dir / "replicas" / NAME
    shutil.rmtree(folder / "app", ignore_errors=True)
    assert (folder / "collected").joinpath(*PLACE, file_name(1) + ".77.part").exists(), "it lies beside the app root"

    plane.want()

    eventually(lambda: plane.seen(NAME) is None and not folder.exists())
    assert received.files == {(NAME, *PLACE, file_name(n)): str(n).encode() for n in range(2)}


def test_without_collection_a_replica_has_no_spool(plane, settings, environment, supervise, received):
    plane.want(replica_spec(plane, environment, script=SCRIPT))
    supervise()
    plane.wait_for(NAME, "ready")

    assert not (settings.node_dir / "replicas" / NAME / "collected").exists()


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ("ridge", "3", file_name()),
        ("ridge", "3", "inputs", "more", file_name()),
        ("..", "3", "inputs", file_name()),
        ("ridge", "3", "in\nputs", file_name()),
        ("ridge", "3", "inputs\n", file_name()),
        ("ridge", "3", "inputs", file_name() + "\n"),
        ("ridge", "3", "inputs", "x.csv"),
        ("ridge", "3", "inputs", ".." + file_name()[2:].lstrip("p")),
    ],
)
def test_a_path_of_another_form_is_no_collected_file(parts):
    assert is_collected_file(("ridge", "3", "inputs", file_name()))
    assert not is_collected_file(parts)


def test_the_day_of_a_file_is_that_of_its_name():
    assert day_of("my-data-20300102T235959Z-00000000.csv").isoformat() == "2030-01-02"
    with pytest.raises(ValueError, match="does not match format"):
        day_of("inputs-20301302T000000Z-00000000.csv")
