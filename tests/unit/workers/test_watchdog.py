"""When a worker counts as deaf."""

from __future__ import annotations

import pytest
from celery.worker import state

from keelway_workers.watchdog import DEAF_AFTER_S, Watchdog


@pytest.fixture
def watchdog(monkeypatch):
    monkeypatch.setattr(state, "total_count", {"keelway.ring": 5})
    monkeypatch.setattr(state, "active_requests", set())
    watchdog = Watchdog(None, ["keelway"], concurrency=2)  # type: ignore[arg-type]
    assert not watchdog.check(1, now=0)
    return watchdog


def test_messages_that_wait_for_a_free_worker_for_too_long_mean_deafness(watchdog):
    assert not watchdog.check(1, now=10)
    assert watchdog.check(1, now=10 + DEAF_AFTER_S)


def test_an_empty_queue_is_no_sign(watchdog):
    watchdog.check(1, now=10)
    watchdog.check(0, now=20)

    assert not watchdog.check(1, now=10 + DEAF_AFTER_S)


def test_a_worker_that_hears_something_is_not_deaf(watchdog, monkeypatch):
    watchdog.check(1, now=10)
    monkeypatch.setattr(state, "total_count", {"keelway.ring": 6})

    assert not watchdog.check(1, now=10 + DEAF_AFTER_S)


def test_a_busy_worker_is_not_deaf(watchdog, monkeypatch):
    monkeypatch.setattr(state, "active_requests", {1, 2})
    watchdog.check(1, now=10)

    assert not watchdog.check(1, now=10 + DEAF_AFTER_S)
