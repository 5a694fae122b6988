"""What operations wrote: while they run, after they ended, and no more than there is room for."""

import json

import pytest

from tests.support.api import wait_until
from tests.support.attempt import Attempt
from tests.support.registry import build

MIB = 2**20


@pytest.fixture
def attempt(api, workspace):
    """A running operation."""
    return Attempt(api, build(api, workspace))


def log_of(api, attempt):
    response = api.admin.get(f"/v1/operations/{attempt.id}/logs")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    return response.text


def events(api, attempt, *, last_event_id=None, stop_after=None, on_event=lambda _: None):
    """(id, text) of each server-sent event, and whether the end was told."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    found, event_id = [], ""
    url = f"/v1/operations/{attempt.id}/logs"
    with api.admin.stream("GET", url, params={"follow": "true"}, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("id: "):
                event_id = line[4:]
            elif line == "event: end":
                return found, True
            elif line.startswith("data: "):
                found.append((event_id, json.loads(line[6:])))
                on_event(found)
                if len(found) == stop_after:
                    return found, False
    return found, False


def archived(api, attempt):
    query = "SELECT log_tail FROM operations WHERE id = %s AND log_tail IS NOT NULL"
    return wait_until(lambda: api.sql(query, attempt.id), "the log lies in the store")[0]["log_tail"]


def test_a_log_grows_with_the_reports(api, attempt):
    attempt.report(log="one\n")
    attempt.report(log="zwö 模\n")

    assert log_of(api, attempt) == "one\nzwö 模\n"


def test_a_log_without_a_line_is_empty(api, attempt):
    assert log_of(api, attempt) == ""


def test_nul_in_a_log_is_left_out(api, attempt):
    attempt.report(log="a\0b")

    assert log_of(api, attempt) == "ab"


def test_a_follower_gets_what_was_and_what_comes_until_the_end(api, attempt):
    attempt.report(log="one\n")

    def go_on(found):
        if len(found) == 1:
            attempt.report(log="two\n")
            attempt.end(log="three\n")

    found, is_over = events(api, attempt, on_event=go_on)

    assert "".join(text for _, text in found) == "one\ntwo\nthree\n"
    assert is_over


def test_a_follower_goes_on_where_it_was_cut_off(api, attempt):
    attempt.report(log="één\n")
    found, _ = events(api, attempt, stop_after=1)
    attempt.report(log="twee\n")
    attempt.end(log="drie\n")

    for _ in range(2):  # from the database, then from the store
        rest, is_over = events(api, attempt, last_event_id=found[-1][0])
        assert "".join(text for _, text in rest) == "twee\ndrie\n"
        assert is_over
        archived(api, attempt)


def test_a_log_is_kept_after_the_end(api, attempt):
    text = "".join(f"line {n}\n" for n in range(20_000))
    attempt.report(log=text)
    attempt.end()

    tail = archived(api, attempt)

    assert text.endswith(tail)
    assert len(tail) == 64 * 2**10
    assert log_of(api, attempt) == text
    assert api.sql("SELECT 1 FROM operation_logs WHERE operation_id = %s", attempt.id) == []


def test_a_log_that_the_store_lost_shows_its_tail(api, attempt):
    attempt.end(log="all there is\n")
    archived(api, attempt)
    api.stack.s3.client().remove_object("keelway", f"logs/operations/{attempt.id}")

    assert log_of(api, attempt) == "all there is\n"


def test_a_log_is_cut_at_16_mib_and_says_so(api, attempt):
    piece = "x" * (MIB - 1) + "\n"
    for _ in range(17):
        assert attempt.report(log=piece).status_code == 200
    attempt.end(log="the very end")

    text = log_of(api, attempt)

    assert text.startswith(piece)
    assert text.endswith("[keelway: the log is longer than 16 MiB; what follows was dropped]\n")
    assert 16 * MIB < len(text) < 16 * MIB + 200


def test_a_piece_of_more_than_a_mib_is_refused(api, attempt):
    assert attempt.report(log="x" * (MIB + 1)).status_code == 422
