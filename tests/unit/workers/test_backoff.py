"""Pauses between restarts."""

from __future__ import annotations

from keelway_workers.backoff import Backoff
from keelway_workers.endings import how_it_ended


def test_pauses_double_up_to_half_a_minute():
    backoff = Backoff()

    pauses = [backoff.pause_s(lived_s=1) for _ in range(8)]

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_minute_of_health_begins_again():
    backoff = Backoff()
    for _ in range(5):
        backoff.pause_s(lived_s=1)

    assert backoff.pause_s(lived_s=60) == 0.5


def test_endings_are_told_in_words():
    assert "could not load its script" in how_it_ended(3)
    assert "memory" in how_it_ended(-9)
    assert how_it_ended(-11) == "was ended by SIGSEGV"
    assert how_it_ended(1) == "ended with exit code 1"
    assert how_it_ended(-250) == "was ended by signal 250"
    assert how_it_ended(None)
