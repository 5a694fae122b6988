"""Aliases: names that move, with their whole history."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from tests.support.problems import assert_problem
from tests.support.registry import open_version, register


@pytest.fixture
def aliases(api, w):
    """The address of the aliases of a model with three versions."""
    for _ in range(3):
        register(api.admin, w, "ridge", {"m.pkl": b"always the same"})
    return f"{w}/models/ridge/aliases"


def move(api, aliases, alias, version, **options):
    return api.admin.put(f"{aliases}/{alias}", json={"version": version}, **options)


def test_an_alias_names_a_version_everywhere_a_version_is_named(api, w, aliases):
    assert move(api, aliases, "champion", 2).status_code == 200

    assert api.admin.get(f"{w}/models/ridge/versions/champion").json()["id"] == "ridge:2"
    assert api.admin.get(f"{w}/models/ridge/versions/champion/files/m.pkl").content == b"always the same"
    assert api.admin.get(f"{w}/models/ridge/versions/2").json()["aliases"] == ["champion"]
    assert [item["alias"] for item in api.admin.get(aliases).json()["items"]] == ["champion"]


def test_every_move_is_kept_with_who_and_when(api, aliases):
    moves = [move(api, aliases, "champion", number).json() for number in (1, 3, 3, 2)]
    assert api.admin.delete(f"{aliases}/champion").status_code == 204

    history = api.admin.get(f"{aliases}/champion/history").json()["items"]

    assert [(change["from_version"], change["to_version"]) for change in history] == [
        (2, None),
        (3, 2),
        (1, 3),
        (None, 1),
    ]
    assert {change["by"] for change in history} == {"admin"}
    assert moves[1] == moves[2]
    assert_problem(api.admin.get(f"{aliases}/champion"), "not-found")


def test_who_held_an_alias_at_a_time_is_answered(api, aliases):
    first = datetime.fromisoformat(move(api, aliases, "champion", 1).json()["since"])
    second = datetime.fromisoformat(move(api, aliases, "champion", 3).json()["since"])
    api.admin.delete(f"{aliases}/champion")
    gone = datetime.fromisoformat(api.admin.get(f"{aliases}/champion/history").json()["items"][0]["at"])

    def held(at):
        return api.admin.get(f"{aliases}/champion", params={"at": at.isoformat()})

    assert held(first).json()["version"] == held(second - timedelta(microseconds=1)).json()["version"] == 1
    assert held(gone - timedelta(microseconds=1)).json()["version"] == 3
    for at in (first - timedelta(seconds=1), gone):
        assert_problem(held(at), "not-found")


def test_history_is_paged(api, aliases):
    for number in (1, 2, 3, 1):
        move(api, aliases, "champion", number)

    first = api.admin.get(f"{aliases}/champion/history", params={"limit": 3}).json()
    rest = api.admin.get(
        f"{aliases}/champion/history", params={"limit": 3, "page_token": first["next_page_token"]}
    ).json()

    assert [change["to_version"] for change in first["items"] + rest["items"]] == [1, 3, 2, 1]


@pytest.mark.parametrize("alias", ["latest", "7", "007", "-x", "a b", "a" * 256])
def test_a_name_that_could_be_taken_for_a_version_is_refused(api, aliases, alias):
    assert_problem(move(api, aliases, alias, 1), "invalid-request")


@pytest.mark.parametrize("body", [{"version": 9}, {"version": 0}, {"version": -1}])
def test_a_version_that_is_not_there_cannot_be_named(api, aliases, body):
    assert_problem(api.admin.put(f"{aliases}/champion", json=body), "not-found")


@pytest.mark.parametrize(
    "body", [{}, {"version": "x"}, {"version": 1.5}, {"version": None}, {"version": 1, "at": "now"}]
)
def test_a_body_that_is_none_is_refused(api, aliases, body):
    assert_problem(api.admin.put(f"{aliases}/champion", json=body), "invalid-request")


def test_only_a_ready_version_can_be_named(api, w, aliases):
    open_version(api.admin, w, "ridge", {"m.pkl": b"not sent yet"})

    assert_problem(move(api, aliases, "champion", 4), "wrong-state")


def test_an_alias_is_moved_only_as_it_was_seen(api, aliases):
    etag = move(api, aliases, "champion", 1).json()["etag"]
    assert move(api, aliases, "champion", 2, headers={"If-Match": etag}).status_code == 200

    assert_problem(move(api, aliases, "champion", 3, headers={"If-Match": etag}), "precondition-failed")
    assert_problem(api.admin.delete(f"{aliases}/champion", headers={"If-Match": etag}), "precondition-failed")

    assert api.admin.get(f"{aliases}/champion").json()["version"] == 2


def test_an_alias_that_was_made_anew_is_not_the_one_that_was_seen(api, aliases):
    etag = move(api, aliases, "champion", 1).json()["etag"]
    api.admin.delete(f"{aliases}/champion")

    assert_problem(move(api, aliases, "champion", 2, headers={"If-Match": "*"}), "precondition-failed")
    assert move(api, aliases, "champion", 2).status_code == 200
    assert_problem(move(api, aliases, "champion", 3, headers={"If-Match": etag}), "precondition-failed")


def test_moves_at_once_make_one_unbroken_chain(api, aliases):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: move(api, aliases, "champion", number % 3 + 1), range(24)))

    assert {answer.status_code for answer in answers} == {200}
    changes = api.admin.get(f"{aliases}/champion/history", params={"limit": 100}).json()["items"][::-1]
    assert [change["from_version"] for change in changes] == [None, *(change["to_version"] for change in changes[:-1])]


def test_a_version_with_an_alias_stays_until_the_alias_is_gone(api, w, aliases):
    move(api, aliases, "champion", 1)
    problem = assert_problem(api.admin.delete(f"{w}/models/ridge/versions/1"), "in-use")
    api.admin.delete(f"{aliases}/champion")

    assert problem["used_by"] == ["alias champion"]
    assert api.admin.delete(f"{w}/models/ridge/versions/1").status_code == 204
    assert len(api.admin.get(f"{aliases}/champion/history").json()["items"]) == 2


def test_aliases_of_a_model_elsewhere_are_not_there(api, aliases):
    stranger = api.as_role("admin", api.workspace())

    assert_problem(stranger.get(aliases), "not-found")
    assert_problem(stranger.put(f"{aliases}/champion", json={"version": 1}), "not-found")
