"""From a run to a model, through the command line and the SDK."""

import json
import uuid

import pytest

from keelway.errors import NoSuchChild, OutputNotFound


@pytest.fixture
def run(keelway, tmp_path):
    """A finished run with a model folder among its outputs."""
    which = ("-e", f"churn-{uuid.uuid4().hex[:8]}", "-r", "r1")
    (tmp_path / "best_model").mkdir()
    (tmp_path / "best_model" / "weights.bin").write_bytes(uuid.uuid4().bytes)
    (tmp_path / "train.log").write_text("epoch 1\n")
    for command in (
        ("create", *which, "--tag", "data=test"),
        ("metric", *which, "auc=0.5", "--step", "1"),
        ("metric", *which, "auc=0.75", "--step", "2"),
        ("upload", *which, tmp_path / "best_model", tmp_path / "train.log", "--to", "outputs"),
        ("finish", *which),
    ):
        done = keelway("run", *command)
        assert done.returncode == 0, done.stderr
    return which


def test_what_a_run_left_becomes_a_model(keelway, run, tmp_path):
    shown = keelway.json("run", "show", *run)
    version = keelway.json("model", "register", "-n", "churn", "--asset-path", "outputs/best_model", *run)
    got = keelway.json("model", "download", version["id"], "-t", tmp_path / "got")

    assert (shown["state"], shown["metrics"]) == ("completed", {"auc": 0.75})
    assert [file["path"] for file in shown["outputs"]] == ["outputs/best_model/weights.bin", "outputs/train.log"]
    assert (version["state"], version["run"]) == ("ready", f"{run[1]}/r1")
    assert got["path"].endswith("best_model")
    weights = tmp_path / "got" / "best_model" / "weights.bin"
    assert weights.read_bytes() == (tmp_path / "best_model" / "weights.bin").read_bytes()
    assert f"{run[1]}/r1" in keelway("model", "show", version["id"]).stdout
    assert [found["id"] for found in keelway.json("model", "list", "--run", f"{run[1]}/r1")] == [version["id"]]


def test_what_a_run_has_not_is_answered_with_what_it_has(keelway, run):
    refused = keelway("model", "register", "-n", "churn", "--asset-path", "nope", *run)

    assert refused.returncode == 1
    assert "outputs/best_model/weights.bin" in refused.stderr


def test_a_finished_run_takes_no_more(keelway, run):
    assert keelway.problem("run", "metric", *run, "auc=1")["type"] == "wrong-state"


def test_the_best_of_a_search_is_registered(keelway, user, tmp_path):
    experiment = f"search-{uuid.uuid4().hex[:8]}"
    (tmp_path / "m.bin").write_bytes(uuid.uuid4().bytes)
    runs = user.client.runs
    with runs.create(experiment, id="search", primary_metric="loss", goal="minimize") as search:
        for iteration, loss in enumerate([0.5, 0.25, 0.75]):
            with search.child(id=f"try-{iteration}", iteration=iteration) as child:
                child.log("loss", loss)
                child.upload(tmp_path / "m.bin")

    version = keelway.json("run", "register-best", "-e", experiment, "-r", "search", "--asset-path", "m.bin")

    assert (version["run"], version["model_id"]) == (f"{experiment}/try-1", f"{experiment}-try-1")
    assert search.refresh().model_id == version["model_id"]
    assert [found.id for found in runs.list(experiment, parent="search")] == ["try-2", "try-1", "try-0"]
    with pytest.raises(NoSuchChild) as refused:
        runs.register_best(experiment, "search", "m.bin", iteration=9)
    assert refused.value.fields["available"] == [0, 1, 2]
    with pytest.raises(OutputNotFound):
        search.register("m", "m.bin")
    assert json.loads(keelway("model", "show", version["id"], "--json").stdout)["state"] == "ready"
