"""The fixtures of tests that talk to the API alone: one API for all files in a row that need it.

Whoever asks first starts it. It does not idle beside the tests of other files: its clock ticks often.
"""

from __future__ import annotations

import pytest

from tests.support.api import Api

_KEY: pytest.StashKey[Api] = pytest.StashKey()


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    """A running API without workers. Who kills a part of it waits until it works again."""
    stash = request.config.stash
    if _KEY not in stash:
        started = Api(tmp_path_factory.mktemp("api"))
        request.config.add_cleanup(started.stop)
        started.start()
        stash[_KEY] = started
    return stash[_KEY]


def end_unless_needed(item: pytest.Item, next_item: pytest.Item | None) -> None:
    """Stop the API after the last test of a file, unless the next file begins with it."""
    stash = item.config.stash
    is_in_row = next_item is not None and (next_item.path == item.path or "api" in _fixtures(next_item))
    if _KEY in stash and not is_in_row:
        stash[_KEY].stop()
        del stash[_KEY]


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


@pytest.fixture
def workspace(api: Api) -> str:
    """A workspace that no other test uses."""
    return api.workspace()


@pytest.fixture
def w(workspace: str) -> str:
    """The path of that workspace."""
    return f"/v1/workspaces/{workspace}"
