"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.stack import Stack

# A shell that runs the tests in the background has them ignore Ctrl-C, and every process they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole of Keelway, one for all tests. Who kills a part of it waits until it works again."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.start()
    yield stack
    stack.stop()
