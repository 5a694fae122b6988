"""Runs: begun, measured, filled and ended, also by an exception."""

from __future__ import annotations

import pytest

from keelway.errors import InvalidInput, WrongState
from tests.unit.sdk import samples
from tests.unit.sdk.samples import entry, missing, sha256
from tests.unit.sdk.wire import Answer, problem

RUNS = "/v1/workspaces/default/experiments/exp/runs"
R1 = f"{RUNS}/r1"


@pytest.fixture
def began(wire):
    """A server that takes a run, what it reports and how it ends."""
    wire.on(f"POST {RUNS}", Answer(201, samples.run()))
    wire.on(f"GET {R1}", Answer(200, samples.run()))
    wire.on(f"POST {R1}/metrics", Answer(201, samples.run(metrics={"auc": 0.5})))
    wire.on(f"PATCH {R1}", lambda asked: Answer(200, samples.run(asked.json["state"])))
    return wire


def test_a_run_that_goes_well_is_completed_at_its_end(began, client):
    with client.runs.create("exp", id="r1", tags={"a": "b"}) as run:
        run.log("auc", 0.5, step=3)

    assert began.of("POST", RUNS)[0].json == {
        "id": "r1", "tags": {"a": "b"}, "display_name": "", "description": "", "properties": {},
    }  # fmt: skip
    assert began.of("POST", f"{R1}/metrics")[0].json == {"metrics": [{"name": "auc", "value": 0.5, "step": 3}]}
    assert [patch.json for patch in began.of("PATCH")] == [{"state": "completed"}]
    assert (run.state, run.id) == ("completed", "r1")


@pytest.mark.parametrize(("error", "state"), [(ValueError, "failed"), (KeyboardInterrupt, "cancelled")])
def test_an_exception_ends_a_run_and_goes_on(began, client, error, state):
    with pytest.raises(error), client.runs.create("exp"):
        raise error

    assert [patch.json for patch in began.of("PATCH")] == [{"state": state}]


def test_a_run_that_cannot_be_ended_does_not_hide_the_exception(began, client):
    began.on(f"PATCH {R1}", problem(409, "wrong-state"))

    with pytest.raises(ValueError, match="mine"), client.runs.create("exp"):
        raise ValueError("mine")
    with pytest.raises(WrongState), client.runs.create("exp"):
        pass


def test_a_run_that_was_ended_inside_is_not_ended_again(began, client):
    with client.runs.create("exp") as run:
        run.finish("failed")

    assert [patch.json for patch in began.of("PATCH")] == [{"state": "failed"}]


def test_a_child_names_its_parent(began, client):
    client.runs.create("exp").child(iteration=2)

    assert began.of("POST", RUNS)[1].json["parent"] == "r1"
    assert began.of("POST", RUNS)[1].json["iteration"] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_that_is_no_number_is_refused_before_it_is_sent(began, client, value):
    with pytest.raises(InvalidInput, match="finite"):
        client.runs.create("exp").log("auc", value)

    assert not began.of("POST", f"{R1}/metrics")


@pytest.mark.parametrize(("to", "path"), [("", "m.bin"), ("outputs", "outputs/m.bin"), ("/a/b/", "a/b/m.bin")])
def test_an_upload_sends_manifest_bytes_and_commit(began, client, tmp_path, to, path):
    (tmp_path / "m.bin").write_bytes(b"bytes")
    began.on(f"POST {R1}/outputs", Answer(201, samples.outputs([missing(path, b"bytes")])))
    began.on(f"PUT /v1/blobs/{sha256(b'bytes')}", Answer(204))
    began.on(f"POST {R1}/outputs/{samples.OPERATION_ID}/commit", Answer(200, samples.outputs()))
    seen = []

    done = client.runs.create("exp").upload(tmp_path / "m.bin", to=to, progress=lambda *part: seen.append(part))

    assert done.state == "ready"
    assert [file["path"] for file in began.of("POST", f"{R1}/outputs")[0].json["files"]] == [path]
    assert [put.body for put in began.of("PUT")] == [b"bytes"]
    assert ("upload", 5, 5) in seen


def test_outputs_that_lead_elsewhere_are_refused_before_they_are_sent(began, client, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"bytes")

    with pytest.raises(InvalidInput, match="normalised"):
        client.runs.create("exp").upload(tmp_path / "m.bin", to="../up")


def test_registering_sends_no_bytes(began, client):
    version = samples.version([entry("m.bin", b"bytes")], run="exp/r1")
    began.on(f"POST {R1}/register", Answer(201, version))
    began.on(f"POST {R1}/register-best", Answer(201, {**version, "model_id": "ridge"}))

    one = client.runs.create("exp").register("ridge", "outputs/m.bin", tags={"a": "b"})
    best = client.runs.register_best("exp", "r1", "m.bin", metric="auc", goal="maximize")

    assert (one.run, best.model_id) == ("exp/r1", "ridge")
    sent = [{key: value for key, value in asked.json.items() if value} for asked in began.of("POST", f"{R1}/register")]
    assert sent == [
        {"name": "ridge", "model_path": "outputs/m.bin", "tags": {"a": "b"}},
        {"model_path": "m.bin", "metric": "auc", "goal": "maximize"},
    ]
    assert not began.of("PUT")


def test_lists_are_filtered_and_read_to_their_end(began, client):
    pages = [Answer(body={"items": [samples.run()], "next_page_token": "x"}), Answer(body={"items": [samples.run()]})]
    began.on(f"GET {RUNS}", *pages)
    began.on("GET /v1/workspaces/default/experiments", Answer(body={"items": []}))

    assert len(list(client.runs.list("exp", state="running", parent="p", tags=["a", "b=c"]))) == 2
    assert list(client.experiments.list(name="exp")) == []
    assert began.of("GET", RUNS)[0].query == "state=running&parent=p&tag=a&tag=b%3Dc"


def test_a_change_can_ask_that_nobody_came_between(began, client):
    began.on(f"PATCH {R1}", Answer(200, samples.run()))

    client.runs.update("exp", "r1", etag='"1"', description="new")

    (sent,) = began.of("PATCH")
    assert (sent.json, sent.headers["if-match"]) == ({"description": "new"}, '"1"')
