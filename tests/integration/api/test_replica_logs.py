"""What replicas wrote: sent piece by piece, perhaps twice, kept to the newest MiB."""

import json

import pytest

from tests.support.attempt import Attempt
from tests.support.problems import assert_problem
from tests.support.registry import node, service

MIB = 2**20


@pytest.fixture
def placed(api, workspace):
    """A node and the names of two replicas on it."""
    host = node(api)
    made = service(api, workspace, deployment_config={"num_replicas": 2})
    return host, [one["name"] for one in Attempt(api, made["operation"], node=host).place().json()["items"]]


def send(api, host, *pieces):
    logs = [{"replica": replica, "offset": offset, "text": text} for replica, offset, text in pieces]
    response = api.worker.post(f"/v1/nodes/{host}/logs", json={"logs": logs})
    assert response.status_code == 204, response.text


def read(api, w, **params):
    response = api.admin.get(f"{w}/services/ridge-svc/logs", params=params)
    assert response.status_code == 200, response.text
    return response.text


def test_pieces_make_one_log(api, w, placed):
    host, [first, _] = placed
    send(api, host, (first, 0, "één\n"))
    send(api, host, (first, 6, "two\n"))

    assert read(api, w) == "één\ntwo\n"
    assert read(api, w, replica=first) == "één\ntwo\n"


def test_several_replicas_are_named(api, w, placed):
    host, [first, second] = placed
    send(api, host, (first, 0, "a\n"), (second, 0, "b\n"))

    assert read(api, w) == f"==> {first} <==\na\n\n==> {second} <==\nb\n"
    assert read(api, w, replica=second) == "b\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, "abc\n"), (0, "abc\n")],
        [(0, "abc\n"), (0, "abc\ndef\n"), (8, "ghi\n")],
        [(0, "abc\n"), (2, "c\ndef\n"), (8, "ghi\n")],
        [(0, "abc\ndef\n"), (0, "abc\n"), (8, "ghi\n")],
        [(0, "a\0c\n"), (0, "a\0c\ndef\n")],
    ],
)
def test_what_is_sent_again_is_not_shown_again_and_nothing_is_lost(api, w, placed, pieces):
    host, [first, _] = placed
    for offset, text in pieces:
        send(api, host, (first, offset, text))
    last = max(offset + len(text) for offset, text in pieces)

    whole = "abc\ndef\nghi\n"[:last]
    assert read(api, w) == (whole if "\0" not in pieces[0][1] else "ac\ndef\n")


def test_the_last_lines_are_shown(api, w, placed):
    host, [first, _] = placed
    send(api, host, (first, 0, "".join(f"{n}\n" for n in range(2000))))

    assert len(read(api, w).splitlines()) == 1000
    assert read(api, w, tail=2) == "1998\n1999\n"
    assert read(api, w, tail=0) == ""


@pytest.mark.parametrize("tail", ["-1", "100001", "x"])
def test_a_tail_out_of_range_is_refused(api, w, placed, tail):
    response = api.admin.get(f"{w}/services/ridge-svc/logs", params={"tail": tail})

    assert_problem(response, "invalid-request")


def test_the_newest_mib_is_kept(api, w, placed):
    host, [first, _] = placed
    piece = "x" * (MIB // 4 - 1) + "\n"
    for n in range(9):
        send(api, host, (first, n * len(piece), piece))

    kept = api.sql("SELECT sum(size_bytes) AS size FROM replica_logs WHERE replica = %s", first)[0]["size"]
    assert MIB <= kept <= 1.5 * MIB


def test_logs_of_strangers_are_ignored(api, w, placed):
    _, [first, _] = placed
    send(api, node(api), (first, 0, "not mine\n"), ("no-such-replica", 0, "x\n"))

    assert read(api, w) == ""


def follow(api, w, *, count, on_event=lambda _: None, last_event_id=None, **params):
    """(id, text) of the first `count` events."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    url = f"{w}/services/ridge-svc/logs"
    found, event_id = [], ""
    with api.admin.stream("GET", url, params={"follow": "true", **params}, headers=headers) as response:
        on_event(found)
        for line in response.iter_lines():
            if line.startswith("id: "):
                event_id = line[4:]
            elif line.startswith("data: "):
                found.append((event_id, json.loads(line[6:])))
                if len(found) == count:
                    return found
                on_event(found)
    return found


def test_a_follower_gets_the_tail_then_what_comes(api, w, placed):
    host, [first, second] = placed
    send(api, host, (first, 0, "old\n"))

    def more(found):
        if len(found) == 1:
            send(api, host, (first, 0, "old\nnew\n"))
            send(api, host, (second, 0, "other\n"))

    found = follow(api, w, count=3, on_event=more)

    assert [text for _, text in found] == ["old\n", "new\n", "other\n"]
    rest = follow(api, w, count=1, last_event_id=found[1][0])
    assert [text for _, text in rest] == ["other\n"]
