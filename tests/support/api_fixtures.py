"""The fixtures of tests that talk to the API alone: one API for the whole run, whoever asks first starts it."""

from __future__ import annotations

import pytest

from tests.support.api import Api

_KEY: pytest.StashKey[Api] = pytest.StashKey()


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    """A running API without workers. Who kills a part of it waits until it works again."""
    stash = request.config.stash
    if _KEY not in stash:
        started = Api(tmp_path_factory.mktemp("api"))
        request.config.add_cleanup(started.stop)
        started.start()
        stash[_KEY] = started
    return stash[_KEY]


@pytest.fixture
def workspace(api: Api) -> str:
    """A workspace that no other test uses."""
    return api.workspace()


@pytest.fixture
def w(workspace: str) -> str:
    """The path of that workspace."""
    return f"/v1/workspaces/{workspace}"
