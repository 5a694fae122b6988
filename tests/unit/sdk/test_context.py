"""The credentials file."""

from __future__ import annotations

import json
import stat

import pytest

from keelway import context
from keelway.errors import KeelwayError


def test_the_file_is_the_owners_only():
    context.save("here", "http://127.0.0.1:7300/", "kw_secret")

    assert stat.S_IMODE(context.file().stat().st_mode) == 0o600
    assert stat.S_IMODE(context.file().parent.stat().st_mode) == 0o700
    assert json.loads(context.file().read_text()) == {
        "current": "here",
        "contexts": {"here": {"url": "http://127.0.0.1:7300", "token": "kw_secret", "workspace": "default"}},
    }


def test_a_file_that_others_could_read_is_closed_when_it_is_written():
    context.save("here", "http://a", "1")
    context.file().chmod(0o644)

    context.save("here", "http://a", "2")

    assert stat.S_IMODE(context.file().stat().st_mode) == 0o600


def test_saving_one_context_keeps_the_others_and_makes_it_current():
    context.save("a", "http://a", "1")
    context.save("b", "http://b", "2", "team")

    assert context.current() == context.Context("b", "http://b", "2", "team")
    assert set(json.loads(context.file().read_text())["contexts"]) == {"a", "b"}


def test_using_a_workspace_changes_the_current_context_only():
    context.save("a", "http://a", "1")

    context.use_workspace("team")

    assert context.current() == context.Context("a", "http://a", "1", "team")


def test_without_a_file_there_is_no_context():
    assert context.current() is None
    with pytest.raises(KeelwayError, match="keelway login"):
        context.use_workspace("team")


@pytest.mark.parametrize("text", ["{", "[]", '{"current": "a", "contexts": {"a": {"url": "x"}}}'])
def test_a_broken_file_is_said_clearly(text):
    context.file().parent.mkdir(parents=True)
    context.file().write_text(text)

    with pytest.raises(KeelwayError, match=r"credentials\.json"):
        context.current()
