"""A stack whose parts are killed, with short leases, and somebody who works with it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.index import StallingIndex
from tests.support.order import in_order
from tests.support.stack import Stack
from tests.support.user import User

LEASE_S = 4.0
SHORT = {"KEELWAY_LEASE_S": str(LEASE_S), "KEELWAY_CLOCK_S": "0.5"}


@pytest.fixture(scope="package")
def index() -> Iterator[StallingIndex]:
    """Where builds can be held up."""
    with StallingIndex().serving() as index:
        yield index


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, index: StallingIndex) -> Iterator[Stack]:
    """One stack for all of these tests but those that end `up` itself."""
    stack = Stack(tmp_path_factory.mktemp("shaken"), env={**SHORT, "UV_INDEX": index.url})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="package")
def user(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Somebody with the SDK, who has what every deployment needs."""
    user = User(stack, tmp_path_factory.mktemp("user"))
    with user.client:
        user.deploy("first")  # builds the environment and fills the caches
        user.delete("first")
        yield user


@pytest.fixture(autouse=True)
def _in_order_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test on the shared stack everything works again, and nothing runs that should not."""
    yield
    if "user" in request.fixturenames:
        in_order(request.getfixturevalue("stack"), request.getfixturevalue("user"))
