"""`keelway run`, and models of what runs left."""

from __future__ import annotations

import json

import pytest

from tests.unit.sdk import samples
from tests.unit.sdk.samples import entry, missing, sha256
from tests.unit.sdk.wire import Answer

RUNS = "/v1/workspaces/default/experiments/exp/runs"
R1 = f"{RUNS}/r1"
WHICH = ("-e", "exp", "-r", "r1")
FILES = [entry("outputs/m.bin", b"bytes")]


@pytest.fixture
def held(wire):
    """A server that holds a run with metrics and an output."""
    run = samples.run(metrics={"loss": 0.25, "auc": 0.5}, tags={"a": "b"}, primary_metric="auc", goal="maximize")
    wire.on(f"GET {R1}", Answer(200, run))
    wire.on(f"GET {RUNS}", Answer(200, {"items": [run]}))
    wire.on(f"GET {R1}/outputs", Answer(200, {"items": [file.model_dump() for file in FILES]}))
    return wire


def test_create_sends_what_was_said(wire, keelway):
    wire.on(f"POST {RUNS}", Answer(201, samples.run()))

    result = keelway(
        "run", "create", "--experiment-name", "exp", "--run-id", "r1", "--parent", "p", "--iteration", "0",
        "--primary-metric", "auc", "--goal", "maximize", "--tag", "a=b", "--property", "c=d", "-d", "text",
    )  # fmt: skip

    assert result.stdout == "began exp/r1\n"
    assert wire.of("POST")[0].json == {
        "id": "r1", "parent": "p", "iteration": 0, "primary_metric": "auc", "goal": "maximize", "tags": {"a": "b"},
        "properties": {"c": "d"}, "description": "text", "display_name": "",
    }  # fmt: skip


def test_list_and_show_are_for_people_and_for_programs(held, keelway):
    listed = keelway("run", "list", "-e", "exp", "--state", "running", "--tag", "a")
    shown = keelway("run", "show", *WHICH).stdout

    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["id", "r1"]
    assert "auc=0.5, loss=0.25" in listed.stdout
    for part in ("exp/r1", "running", "auc (maximize)", "a=b", "outputs/m.bin", sha256(b"bytes")):
        assert part in shown
    document = json.loads(keelway("run", "show", *WHICH, "--json").stdout)
    assert (document["id"], document["outputs"][0]["path"]) == ("r1", "outputs/m.bin")
    assert json.loads(keelway("run", "list", "-e", "exp", "--json").stdout)[0]["metrics"]["auc"] == 0.5


def test_upload_shows_progress_and_how_many_there_are(held, keelway, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"bytes")
    held.on(f"POST {R1}/outputs", Answer(201, samples.outputs([missing("outputs/m.bin", b"bytes")])))
    held.on(f"PUT /v1/blobs/{sha256(b'bytes')}", Answer(204))
    held.on(f"POST {R1}/outputs/{samples.OPERATION_ID}/commit", Answer(200, samples.outputs()))

    result = keelway("run", "upload", str(tmp_path / "m.bin"), *WHICH, "--to", "outputs")

    assert result.stdout == "exp/r1 has 1 output(s)\n"
    assert "upload: 5 B of 5 B" in result.stderr


def test_metric_reports_values_or_lists_them(held, keelway):
    held.on(f"POST {R1}/metrics", Answer(201, samples.run(metrics={"auc": 0.5})))
    value = {"name": "auc", "value": 0.5, "step": None, "at": "2030-01-01T00:00:00Z"}
    held.on(f"GET {R1}/metrics", Answer(200, {"items": [value]}))

    assert keelway("run", "metric", "auc=0.5", "loss=1e-3", "--step", "2", *WHICH).stdout == "auc=0.5\n"
    assert held.of("POST")[0].json["metrics"] == [
        {"name": "auc", "value": 0.5, "step": 2},
        {"name": "loss", "value": 0.001, "step": 2},
    ]
    assert "0.5" in keelway("run", "metric", *WHICH).stdout
    assert json.loads(keelway("run", "metric", *WHICH, "--json").stdout)[0]["name"] == "auc"
    assert keelway("run", "metric", "auc=nan", *WHICH).exit_code == 1


def test_finish_says_how_it_ended(wire, keelway):
    wire.on(f"PATCH {R1}", lambda asked: Answer(200, samples.run(asked.json["state"])))

    assert keelway("run", "finish", *WHICH).stdout == "exp/r1 is completed\n"
    assert keelway("run", "finish", *WHICH, "--state", "failed").stdout == "exp/r1 is failed\n"


def test_a_model_is_registered_of_what_a_run_left(wire, keelway):
    wire.on(f"POST {R1}/register", Answer(201, samples.version([entry("m.bin", b"bytes")], run="exp/r1")))

    result = keelway(
        "model", "register", "-n", "ridge", "--asset-path", "outputs/m.bin", "--experiment-name", "exp",
        "--run-id", "r1", "--tag", "a=b", "--cpu", "1",
    )  # fmt: skip

    assert result.stdout == "registered ridge:1 (1 file(s), 5 B)\n"
    sent = wire.of("POST")[0].json
    assert (sent["name"], sent["model_path"], sent["tags"]) == ("ridge", "outputs/m.bin", {"a": "b"})
    assert sent["resource_requirements"] == {"cpu": 1}


def test_the_best_of_a_search_is_registered(wire, keelway):
    version = samples.version([entry("m.bin", b"bytes")], run="exp/try-1")
    wire.on(f"POST {R1}/register-best", Answer(201, {**version, "model_id": "ridge"}))

    result = keelway("run", "register-best", *WHICH, "--asset-path", "m.bin", "--metric", "auc", "--goal", "maximize")

    assert result.stdout == "registered ridge:1 of exp/try-1 (5 B)\n"
    assert wire.of("POST")[0].json["metric"] == "auc"


def test_experiments_are_listed(wire, keelway):
    one = {"name": "churn", "created_at": "2030-01-01T00:00:00Z", "created_by": "me"}
    wire.on("GET /v1/workspaces/default/experiments", Answer(200, {"items": [one]}))

    assert [line.split()[0] for line in keelway("experiment", "list").stdout.splitlines()] == ["name", "churn"]
    assert json.loads(keelway("experiment", "list", "-n", "churn", "--json").stdout)[0]["created_by"] == "me"
    assert wire.asked[-1].query == "name=churn"
