"""Waiting for operations, following their logs, and what workers say about them."""

from __future__ import annotations

import time

import pytest

from keelway.contracts.operations import OperationState, Report
from keelway.contracts.services import NodeObserved, NodeRegister, PlaceReplicas
from keelway.errors import NotFound, OperationNotClaimable, StaleAttempt, WaitTimeout
from tests.unit.sdk import samples
from tests.unit.sdk.samples import OPERATION_ID as ID
from tests.unit.sdk.wire import Answer, Asked, problem

PATH = f"/v1/operations/{ID}"
QUEUED = Answer(body=samples.operation(OperationState.QUEUED))
RUNNING = Answer(body=samples.operation(OperationState.RUNNING, steps=("build",)))
DONE = Answer(body=samples.operation(steps=("build", "start")))
STREAM = {"Content-Type": "text/event-stream"}


def test_a_list_takes_the_filters_of_the_api_and_no_others(wire, client):
    wire.on("GET /v1/operations", Answer(200, {"items": []}))

    assert list(client.operations.list(workspace="a", state=["queued", "running"], subject="ridge")) == []

    assert wire.asked[0].query == "workspace=a&state=queued&state=running&subject=ridge"
    with pytest.raises(TypeError):
        client.operations.list(stat="queued")


def test_waiting_tells_every_new_state_and_ends_with_the_last(wire, client):
    wire.on(f"GET {PATH}", QUEUED, QUEUED, RUNNING, DONE)
    states: list[str] = []

    ended = client.operations.wait(ID, on_change=lambda operation: states.append(operation.state))

    assert ended.state == "succeeded"
    assert states == ["queued", "running", "succeeded"]
    waits = [f"seen={state}&wait_s=30.0" for state in ("queued", "queued", "running")]
    assert [asked.query for asked in wire.asked] == ["", *waits]


def test_an_operation_that_failed_is_returned_by_wait(wire, client):
    wire.on(f"GET {PATH}", Answer(body=samples.operation(OperationState.FAILED)))

    assert client.operations.wait(ID).state == "failed"


def test_waiting_ends_after_the_callers_limit(wire, client):
    def slowly(asked: Asked) -> Answer:
        time.sleep(0.05)
        return RUNNING

    wire.on(f"GET {PATH}", slowly)

    with pytest.raises(WaitTimeout, match="still running"):
        client.operations.wait(ID, timeout_s=0.2)


def test_logs_are_followed_over_a_cut_connection(wire, client):
    first = b'id: 5\ndata: "one\\n"\n\n: quiet\n\nid: 9\ndata: "two"\n\n'
    second = b'id: 12\ndata: "\\u00e4\\n"\n\nevent: end\ndata: {}\n\n'
    wire.on(
        f"GET {PATH}/logs",
        Answer(200, first + b"id: 99\ndata: ", {**STREAM, "Content-Length": "1000"}, cut_at=len(first)),
        Answer(200, second, STREAM),
    )

    assert "".join(client.operations.logs(ID, follow=True)) == "one\ntwoä\n"
    assert wire.asked[0].query == "follow=true"
    assert "last-event-id" not in wire.asked[0].headers
    assert wire.asked[1].headers["last-event-id"] == "9"


def test_a_stream_that_ends_without_its_end_is_asked_again(wire, client):
    wire.on(
        f"GET {PATH}/logs",
        Answer(200, b'id: 3\ndata: "abc"\n\n', STREAM),
        Answer(200, b"event: end\ndata: {}\n\n", STREAM),
    )

    assert list(client.operations.logs(ID, follow=True)) == ["abc"]


def test_logs_that_are_not_followed_are_plain_text(wire, client):
    wire.on(f"GET {PATH}/logs", Answer(200, b"whole log\n", {"Content-Type": "text/plain"}))

    assert "".join(client.operations.logs(ID)) == "whole log\n"
    assert wire.asked[0].query == ""


def test_logs_of_nothing_are_not_found(client):
    with pytest.raises(NotFound):
        list(client.operations.logs(ID, follow=True))


def test_a_worker_claims_beats_reports_places_and_activates(wire, client):
    claim = {"operation": RUNNING.body, "epoch": 4, "lease_s": 30, "heartbeat_s": 10, "spec": {"a": 1}}
    wire.on(f"POST {PATH}/claim", Answer(body=claim))
    wire.on(f"POST {PATH}/heartbeat", Answer(body={"state": "cancelling", "lease_until": "2030-01-01T00:00:00Z"}))
    wire.on(f"POST {PATH}/reports", RUNNING)
    wire.on(f"POST {PATH}/replicas", Answer(body={"items": [], "seen": "s1"}))
    wire.on(f"GET {PATH}/replicas", Answer(body={"items": [], "seen": "s2"}))
    wire.on(f"POST {PATH}/activate", Answer(204))
    wire.on(f"POST {PATH}/cancel", RUNNING)
    operations = client.operations

    assert operations.claim(ID, owner="w1", node="n1").epoch == 4
    assert operations.heartbeat(ID, 4).state == "cancelling"
    assert operations.report(ID, Report(epoch=4, seq=1, step="build")).state == "running"
    assert operations.place(ID, PlaceReplicas(epoch=4, node="n1", image="i")).seen == "s1"
    assert operations.replicas(ID, seen="s1", wait_s=5).seen == "s2"
    operations.activate(ID, 4)
    operations.cancel(ID)

    sent = {asked.path.rsplit("/", 1)[1]: asked.json for asked in wire.of("POST") if asked.body}
    assert sent == {
        "claim": {"owner": "w1", "node": "n1"},
        "heartbeat": {"epoch": 4},
        "reports": {"epoch": 4, "seq": 1, "state": "running", "step": "build"},
        "replicas": {"epoch": 4, "node": "n1", "image": "i"},
        "activate": {"epoch": 4},
    }
    assert wire.of("GET")[0].query in {"seen=s1&wait_s=5", "wait_s=5&seen=s1"}


def test_refusals_of_a_worker_are_exceptions(wire, client):
    wire.on(f"POST {PATH}/claim", problem(409, "operation-not-claimable"))
    wire.on(f"POST {PATH}/reports", problem(409, "stale-attempt"))

    with pytest.raises(OperationNotClaimable):
        client.operations.claim(ID, owner="w1", node="n1")
    with pytest.raises(StaleAttempt):
        client.operations.report(ID, Report(epoch=1, seq=1))


def test_a_node_registers_asks_what_to_run_and_tells_what_runs(wire, client):
    node = {
        "name": "n1", "state": "ready", "pythons": ["3.11.7"], "targets": ["process"], "capacity": {}, "labels": {},
        "keelway_version": "0.1.0", "heartbeat_at": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    wire.on("PUT /v1/nodes/n1", Answer(body=node))
    wire.on("GET /v1/nodes/n1/desired", Answer(body={"generation": 0, "replicas": []}))
    wire.on("PUT /v1/nodes/n1/observed", Answer(204))

    assert client.nodes.register("n1", NodeRegister(pythons=["3.11.7"], targets=["process"])).state == "ready"
    assert client.nodes.desired("n1", seen=0, wait_s=2).generation == 0
    client.nodes.observed("n1", NodeObserved(generation=0, replicas=[]))

    # Generation 0 is a generation: it must not get lost on the way.
    assert "seen=0" in wire.of("GET")[0].query
    assert wire.of("PUT")[1].json == {"generation": 0, "replicas": []}
