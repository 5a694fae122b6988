"""The four embedded services without Keelway's own processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One set for a module. Who kills one of them waits until it works again."""
    stack = Stack(tmp_path_factory.mktemp("services"), services_only=True)
    stack.start()
    yield stack
    stack.stop()
