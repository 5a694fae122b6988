"""What holds for every test: in which turn it is run, and what ends after it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.support.api_fixtures import end_unless_needed
from tests.support.turns import Together, turn

# A shell that runs the tests in the background has them ignore Ctrl-C, and every process they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: turn(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together | None:
    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    end_unless_needed(item, nextitem)
