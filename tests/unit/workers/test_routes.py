"""The gateway's routes on disk."""

from __future__ import annotations

import json
import threading
import time

import pytest

from keelway_workers.routes import keep_routes


@pytest.fixture
def keep(plane, tmp_path):
    """Keeps routes in a thread; gives the file."""
    ending = threading.Event()
    file = tmp_path / "gateway" / "routes.yml"
    thread = threading.Thread(target=keep_routes, args=(plane, file, ending))
    thread.start()
    yield file
    ending.set()
    thread.join()


def eventually(condition) -> None:
    ends_at = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def test_routes_follow_the_api_and_survive_its_absence(plane, keep):
    plane.routes = ('"1"', {"http": {"routers": {}}})
    eventually(keep.exists)
    plane.is_away = True
    time.sleep(0.2)
    assert json.loads(keep.read_text()) == {"http": {"routers": {}}}
    plane.is_away = False

    plane.routes = ('"2"', {"http": {"routers": {"a": {}}}})

    eventually(lambda: "a" in keep.read_text())
    assert list(keep.parent.iterdir()) == [keep]


def test_an_answer_that_is_no_configuration_is_not_written(plane, keep):
    plane.routes = ('"1"', ["nonsense"])  # type: ignore[assignment]
    time.sleep(0.3)

    assert not keep.exists()
