"""Experiments and runs: begun, described, measured, ended; their outputs."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.api.test_paging import walk
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import manifest, open_version, send, unique_bytes
from tests.support.runs import commit_outputs, finish, open_outputs, outputs, path_of, report, run

JSON = {"Content-Type": "application/json"}


def shown(api, w, made):
    return api.admin.get(path_of(w, made)).json()


def test_a_run_is_begun_described_and_ended(api, w):
    made = run(api.admin, w, id="r1", display_name="first", tags={"a": "b"}, properties={"seed": "1"})

    ended = finish(api.admin, w, made)

    assert (made["id"], made["experiment"], made["state"], made["ended_at"]) == ("r1", "exp", "running", None)
    assert (made["tags"], made["properties"], made["metrics"]) == ({"a": "b"}, {"seed": "1"}, {})
    assert ended["state"] == "completed"
    assert ended["ended_at"]
    assert shown(api, w, made) == ended


def test_an_experiment_is_made_with_its_first_run(api, w):
    for experiment in ("b", "a", "b"):
        run(api.admin, w, experiment)

    assert [found["name"] for found in walk(api.admin, f"{w}/experiments", limit=1)] == ["a", "b"]
    assert [found["name"] for found in walk(api.admin, f"{w}/experiments", name="b")] == ["b"]


def test_a_run_without_an_id_gets_one(api, w):
    first, second = run(api.admin, w), run(api.admin, w)

    assert first["id"] != second["id"]
    assert shown(api, w, first)["id"] == first["id"]


def test_an_id_is_taken_once_in_an_experiment(api, w):
    run(api.admin, w, id="r1")
    run(api.admin, w, "other", id="r1")

    assert_problem(api.admin.post(f"{w}/experiments/exp/runs", json={"id": "r1"}), "already-exists")


def test_of_twenty_runs_begun_at_once_with_one_id_one_is_made(api, w):
    with ThreadPoolExecutor(20) as pool:
        path = f"{w}/experiments/exp/runs"
        answers = list(pool.map(lambda _: api.admin.post(path, json={"id": "r1"}), range(20)))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19


def test_runs_come_newest_first_and_once_each_while_more_are_begun(api, w):
    for number in range(5):
        run(api.admin, w, id=f"r{number}")

    seen = walk(api.admin, f"{w}/experiments/exp/runs", limit=2, between=lambda: run(api.admin, w))

    assert [found["id"] for found in seen] == ["r4", "r3", "r2", "r1", "r0"]


def test_runs_are_found_by_state_parent_and_tags(api, w):
    run(api.admin, w, id="top", tags={"team": "a", "x": "="})
    run(api.admin, w, id="child", parent="top", tags={"team": "b"})
    finish(api.admin, w, run(api.admin, w, id="done", tags={"team": "a"}))

    def ids(**params):
        return [found["id"] for found in walk(api.admin, f"{w}/experiments/exp/runs", **params)]

    assert ids(state="running") == ["child", "top"]
    assert ids(parent="top") == ["child"]
    assert ids(tag="team") == ["done", "child", "top"]
    assert ids(tag="team=a") == ["done", "top"]
    assert ids(tag=["team=a", "x=="]) == ["top"]
    assert ids(tag="team=a", state="completed", parent="top") == []


@pytest.mark.parametrize(("parameter", "value"), [("state", "nonsense"), ("parent", "no name"), ("tag", "=x")])
def test_a_filter_that_nothing_can_match_is_refused(api, w, parameter, value):
    run(api.admin, w)

    response = api.admin.get(f"{w}/experiments/exp/runs", params={parameter: value})

    assert [path.split("[")[0] for path in paths_of(assert_problem(response, "invalid-request"))] == [
        f"query.{parameter}"
    ]


def test_what_is_not_there_is_not_found(api, w):
    run(api.admin, w, id="r1")

    assert_problem(api.admin.get(f"{w}/experiments/nope/runs"), "not-found")
    assert_problem(api.admin.get(f"{w}/experiments/exp/runs/nope"), "not-found")
    assert_problem(api.admin.get(f"{w}/experiments/exp/runs", params={"parent": "nope"}), "not-found")
    assert_problem(api.admin.get(f"{w}/experiments/nope/runs/r1"), "not-found")


def test_another_workspace_s_run_is_not_found(api, w):
    made = run(api.admin, w, id="r1")
    upload = open_outputs(api.admin, w, made, {"m.pkl": unique_bytes()})
    foreign = f"/v1/workspaces/{api.workspace()}"
    run(api.admin, foreign, id="r2")
    path = path_of(foreign, made)

    for method, rest, body in [
        ("GET", "", None),
        ("PATCH", "", {}),
        ("POST", "/metrics", {"metrics": [{"name": "a", "value": 1}]}),
        ("GET", "/metrics", None),
        ("POST", "/outputs", {"files": manifest({"m.pkl": b"x"})}),
        ("POST", f"/outputs/{upload['id']}/commit", None),
        ("GET", "/outputs", None),
        ("POST", "/register", {"name": "m"}),
        ("POST", "/register-best", {"model_path": "m"}),
    ]:
        assert_problem(api.admin.request(method, path + rest, json=body), "not-found")
    response = api.admin.post(f"{path_of(foreign, {**made, 'id': 'r2'})}/outputs/{upload['id']}/commit")
    assert_problem(response, "not-found")


def test_a_child_names_its_parent_and_its_iteration(api, w):
    run(api.admin, w, id="top", primary_metric="auc", goal="maximize")

    child = run(api.admin, w, id="child", parent="top", iteration=0)

    assert (child["parent"], child["iteration"]) == ("top", 0)
    response = api.admin.post(f"{w}/experiments/exp/runs", json={"parent": "top", "iteration": 0})
    assert "'0'" in assert_problem(response, "already-exists")["detail"]


def test_a_parent_must_be_there_before_in_the_same_experiment(api, w):
    run(api.admin, w, "other", id="elsewhere")

    for body in ({"parent": "elsewhere"}, {"id": "loop", "parent": "loop"}, {"parent": "nope"}):
        assert_problem(api.admin.post(f"{w}/experiments/exp/runs", json=body), "not-found")
    assert_problem(api.admin.get(f"{w}/experiments/exp/runs"), "not-found")


def test_a_parent_never_changes_so_that_no_circle_is_made(api, w):
    top = run(api.admin, w, id="top")
    run(api.admin, w, id="child", parent="top")

    response = api.admin.patch(path_of(w, top), json={"parent": "child"})

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.parent"]


@pytest.mark.parametrize(
    "body",
    [
        {"id": "a/b"},
        {"id": ".."},
        {"iteration": 1},
        {"parent": "p", "iteration": -1},
        {"parent": "p", "iteration": 2**31},
        {"goal": "maximize"},
        {"primary_metric": "auc"},
        {"primary_metric": "auc", "goal": "biggest"},
        {"state": "completed"},
        {"tags": {"": "x"}},
        {"tags": {"a": 1}},
        {"tags": {"a": "\0"}},
        {"properties": {"\0": "a"}},
        {"description": "\0"},
        {"tags": {f"k{number}": "" for number in range(1001)}},
        {"nonsense": 1},
        [],
    ],
)
def test_a_run_that_makes_no_sense_is_refused(api, w, body):
    assert_problem(api.admin.post(f"{w}/experiments/exp/runs", json=body), "invalid-request")


@pytest.mark.parametrize("experiment", ["-a", "a b", "a" * 256, "é"])
def test_a_bad_name_of_an_experiment_is_refused(api, w, experiment):
    assert_problem(api.admin.post(f"{w}/experiments/{experiment}/runs", json={}), "invalid-request")


def test_a_run_is_described_anew_and_its_properties_only_grow(api, w):
    made = run(api.admin, w, tags={"a": "1"}, properties={"p": "1"})
    body = {"description": "new", "display_name": "n", "tags": {"b": "2"}, "properties": {"q": "2"}}

    updated = api.admin.patch(path_of(w, made), json=body).json()

    assert (updated["description"], updated["display_name"], updated["tags"]) == ("new", "n", {"b": "2"})
    assert updated["properties"] == {"p": "1", "q": "2"}
    problem = assert_problem(api.admin.patch(path_of(w, made), json={"properties": {"p": "2"}}), "immutable")
    assert problem["keys"] == ["p"]
    assert shown(api, w, made) == updated


def test_a_change_of_what_somebody_else_changed_is_refused(api, w):
    made = run(api.admin, w)
    path = path_of(w, made)
    seen = api.admin.get(path).headers["etag"]
    changed = api.admin.patch(path, json={"description": "theirs"}, headers={"If-Match": seen})

    late = api.admin.patch(path, json={"description": "mine"}, headers={"If-Match": seen})

    assert changed.headers["etag"] == changed.json()["etag"] != seen
    assert_problem(late, "precondition-failed")
    assert shown(api, w, made)["description"] == "theirs"


def test_a_run_ends_once(api, w):
    made = finish(api.admin, w, run(api.admin, w), "failed")

    assert finish(api.admin, w, made, "failed") == made
    for state in ("running", "completed", "cancelled"):
        problem = assert_problem(api.admin.patch(path_of(w, made), json={"state": state}), "wrong-state")
        assert problem["state"] == "failed"
    assert api.admin.patch(path_of(w, made), json={"description": "why"}).status_code == 200


def test_audit_and_events_tell_of_runs(api, w):
    made = run(api.admin, w, id="r1")
    outputs(api.admin, w, made, {"m.pkl": unique_bytes()})
    finish(api.admin, w, made)

    entries = api.admin.get(f"{w}/audit").json()["items"]
    events = api.sql("SELECT name FROM events WHERE subject = 'experiments/exp/runs/r1' ORDER BY id DESC LIMIT 2")

    assert [entry["action"] for entry in entries][:4] == [
        "run.update", "run.outputs.commit", "run.outputs.open", "run.create",
    ]  # fmt: skip
    assert [event["name"] for event in events] == ["run.completed", "run.created"]


def test_every_value_of_a_metric_is_kept_and_the_last_one_counts(api, w):
    made = run(api.admin, w)
    values = [("loss", 0.5, 1), ("loss", 0.25, 2), ("auc", 0.1, None), ("loss", 0.3, 1)]
    body = {"metrics": [{"name": name, "value": value, "step": step} for name, value, step in values]}

    answer = api.admin.post(f"{path_of(w, made)}/metrics", json=body)
    report(api.admin, w, made, auc=5e-324, huge=1.7976931348623157e308, whole=3)

    assert answer.json()["metrics"] == {"loss": 0.3, "auc": 0.1}
    last = {"loss": 0.3, "auc": 5e-324, "huge": 1.7976931348623157e308, "whole": 3}
    assert shown(api, w, made)["metrics"] == last
    seen = walk(api.admin, f"{path_of(w, made)}/metrics", limit=3)
    assert [(one["name"], one["value"], one["step"]) for one in seen][:4] == values
    assert len(seen) == 7
    assert [one["value"] for one in walk(api.admin, f"{path_of(w, made)}/metrics", name="loss")] == [0.5, 0.25, 0.3]


def test_metrics_that_are_reported_at_once_are_all_kept(api, w):
    made = run(api.admin, w)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: report(api.admin, w, made, **{f"m{number % 5}": number}), range(40)))

    assert len(walk(api.admin, f"{path_of(w, made)}/metrics")) == 40
    assert set(shown(api, w, made)["metrics"]) == {f"m{number}" for number in range(5)}


def test_a_report_that_meets_the_end_of_its_run_is_kept_or_refused(api, w):
    made = run(api.admin, w)
    body = {"metrics": [{"name": "a", "value": 1}]}

    def act(number):
        if number == 10:
            finish(api.admin, w, made)
        return api.admin.post(f"{path_of(w, made)}/metrics", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(act, range(30)))

    assert set(codes) == {201, 409}
    assert len(walk(api.admin, f"{path_of(w, made)}/metrics")) == codes.count(201)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400, "null", '"1"', "true", "[1]"]
)
def test_a_metric_is_a_finite_number(api, w, value):
    made = run(api.admin, w)
    body = f'{{"metrics": [{{"name": "loss", "value": {value}}}]}}'

    response = api.admin.post(f"{path_of(w, made)}/metrics", content=body, headers=JSON)

    assert_problem(response, "invalid-request")
    assert shown(api, w, made)["metrics"] == {}


@pytest.mark.parametrize(
    "metric",
    [
        {"name": "a b", "value": 1},
        {"name": "", "value": 1},
        {"name": "a", "value": 1, "step": -1},
        {"name": "a", "value": 1, "step": 10**30},
        {"name": "a", "value": 1, "step": 1.5},
        {"name": "a", "value": 1, "nonsense": 1},
        {"name": "a"},
        {"value": 1},
    ],
)
def test_a_metric_that_makes_no_sense_is_refused(api, w, metric):
    response = api.admin.post(f"{path_of(w, run(api.admin, w))}/metrics", json={"metrics": [metric]})

    assert_problem(response, "invalid-request")


def test_a_report_has_a_few_metrics_and_a_run_a_thousand(api, w):
    made = run(api.admin, w)
    path = f"{path_of(w, made)}/metrics"
    metrics = [{"name": f"m{number}", "value": number} for number in range(1000)]

    assert_problem(api.admin.post(path, json={"metrics": []}), "invalid-request")
    assert_problem(api.admin.post(path, json={"metrics": [*metrics, *metrics]}), "invalid-request")
    assert api.admin.post(path, json={"metrics": metrics}).status_code == 201
    assert api.admin.post(path, json={"metrics": metrics[:1]}).status_code == 201
    refused = api.admin.post(path, json={"metrics": [{"name": "more", "value": 1}]})
    assert "1000" in assert_problem(refused, "invalid-request")["detail"]
    assert len(api.sql("SELECT 1 FROM run_metrics m JOIN runs r ON r.id = m.run_id WHERE r.name = %s", made["id"])) == (
        1001
    )


def test_an_ended_run_takes_no_metrics_and_no_outputs(api, w):
    made = run(api.admin, w)
    files = {"m.pkl": unique_bytes()}
    upload = open_outputs(api.admin, w, made, files)
    send(api.admin, upload, files)
    finish(api.admin, w, made)
    path = path_of(w, made)

    for response in (
        api.admin.post(f"{path}/metrics", json={"metrics": [{"name": "a", "value": 1}]}),
        api.admin.post(f"{path}/outputs", json={"files": manifest(files)}),
        commit_outputs(api.admin, w, made, upload),
    ):
        assert assert_problem(response, "wrong-state")["state"] == "completed"
    assert api.admin.get(f"{path}/outputs").json()["items"] == []


def test_a_report_that_is_sent_twice_counts_once(api, w):
    made = run(api.admin, w)
    body = {"metrics": [{"name": "a", "value": 1}]}
    key = {"Idempotency-Key": "a-report"}

    for _ in range(2):
        assert api.admin.post(f"{path_of(w, made)}/metrics", json=body, headers=key).status_code == 201

    assert len(walk(api.admin, f"{path_of(w, made)}/metrics")) == 1


def test_outputs_are_there_once_every_byte_is(api, w):
    made = run(api.admin, w)
    files = {"outputs/model.pkl": unique_bytes(), "logs/train.txt": unique_bytes()}

    upload = open_outputs(api.admin, w, made, files)
    early = commit_outputs(api.admin, w, made, upload)
    before = api.admin.get(f"{path_of(w, made)}/outputs").json()["items"]
    send(api.admin, upload, files)
    committed = commit_outputs(api.admin, w, made, upload).json()

    assert (upload["state"], upload["run"]) == ("uploading", f"exp/{made['id']}")
    assert [file["path"] for file in upload["missing"]] == ["logs/train.txt", "outputs/model.pkl"]
    assert assert_problem(early, "blobs-missing")["paths"] == ["logs/train.txt", "outputs/model.pkl"]
    assert before == []
    assert (committed["state"], committed["missing"]) == ("ready", [])
    assert api.admin.get(f"{path_of(w, made)}/outputs").json()["items"] == sorted(
        manifest(files), key=lambda file: file["path"]
    )


def test_outputs_come_in_several_uploads(api, w):
    made = run(api.admin, w)
    shared = unique_bytes()
    outputs(api.admin, w, made, {"a.bin": shared})

    again = open_outputs(api.admin, w, made, {"a.bin": shared, "b.bin": b"1"})
    outputs(api.admin, w, made, {"a.bin": shared, "b.bin": b"1"})

    assert "a.bin" not in [file["path"] for file in again["missing"]]
    paths = [file["path"] for file in api.admin.get(f"{path_of(w, made)}/outputs").json()["items"]]
    assert paths == ["a.bin", "b.bin"]


def test_committing_outputs_twice_is_one_commit_also_after_the_run_ended(api, w):
    made = run(api.admin, w)
    upload = outputs(api.admin, w, made, {"a.bin": unique_bytes()})
    finish(api.admin, w, made)

    assert commit_outputs(api.admin, w, made, upload).json() == upload


def test_an_output_never_changes(api, w):
    made = run(api.admin, w)
    outputs(api.admin, w, made, {"m/a.bin": b"one"})

    refused = api.admin.post(f"{path_of(w, made)}/outputs", json={"files": manifest({"m/a.bin": b"two", "b": b"x"})})

    assert assert_problem(refused, "output-conflict")["paths"] == ["m/a.bin"]


@pytest.mark.parametrize("path", ["M/a.bin", "m", "m/a.bin/inner", "m/A.BIN"])
def test_outputs_must_be_able_to_lie_side_by_side(api, w, path):
    made = run(api.admin, w)
    outputs(api.admin, w, made, {"m/a.bin": b"one"})

    refused = api.admin.post(f"{path_of(w, made)}/outputs", json={"files": manifest({path: b"one"})})

    assert_problem(refused, "output-conflict")


def test_of_two_uploads_of_one_path_the_first_commit_counts(api, w):
    made = run(api.admin, w)
    first, second = {"a.bin": unique_bytes()}, {"a.bin": unique_bytes()}
    uploads = [open_outputs(api.admin, w, made, files) for files in (first, second)]
    for upload, files in zip(uploads, (first, second), strict=True):
        send(api.admin, upload, files)

    assert commit_outputs(api.admin, w, made, uploads[1]).status_code == 200
    assert_problem(commit_outputs(api.admin, w, made, uploads[0]), "output-conflict")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\x00b", "", "a/", "\u202etxt.exe"])
def test_a_path_that_leads_elsewhere_is_refused(api, w, path):
    made = run(api.admin, w)

    response = api.admin.post(f"{path_of(w, made)}/outputs", json={"files": manifest({path: b"x"})})

    assert_problem(response, "invalid-request")


def test_bytes_of_another_workspace_are_no_shortcut(api, w):
    secret = {"m.pkl": unique_bytes()}
    owner = f"/v1/workspaces/{api.workspace()}"
    send(api.admin, open_version(api.admin, owner, "m", secret), secret)
    stranger = api.as_role("contributor", w.rsplit("/", 1)[1])

    upload = open_outputs(stranger, w, run(stranger, w), secret)

    assert [file["path"] for file in upload["missing"]] == ["m.pkl"]


def test_outputs_that_nobody_goes_on_with_are_forgotten(api, w):
    made = run(api.admin, w)
    upload = open_outputs(api.admin, w, made, {"m.pkl": unique_bytes()})
    kept = outputs(api.admin, w, made, {"kept.pkl": unique_bytes()})
    ours = "SELECT o.manifest_id FROM run_outputs o JOIN runs r ON r.id = o.run_id WHERE r.name = %s"
    api.sql(f"UPDATE manifests SET touched_at = now() - interval '30 days' WHERE id IN ({ours})", made["id"])

    api.admin.post("/v1/gc")

    assert_problem(commit_outputs(api.admin, w, made, upload), "not-found")
    assert commit_outputs(api.admin, w, made, kept).status_code == 200


def test_garbage_collection_leaves_outputs_alone(api, w):
    made = run(api.admin, w)
    files = {"outputs/m.pkl": unique_bytes()}
    outputs(api.admin, w, made, files)

    api.admin.post("/v1/gc", params={"grace_s": 0})
    response = api.admin.post(f"{path_of(w, made)}/register", json={"name": "m", "model_path": "m.pkl"})

    assert response.status_code == 201, response.text
    assert api.admin.get(f"{w}/models/m/versions/1/files/m.pkl").content == files["outputs/m.pkl"]


def test_the_id_of_an_upload_is_a_uuid(api, w):
    made = run(api.admin, w)

    assert_problem(api.admin.post(f"{path_of(w, made)}/outputs/nonsense/commit"), "invalid-request")


def test_a_manifest_of_outputs_may_be_large(api, w):
    made = run(api.admin, w)
    files = manifest({f"logs/{number:05}.txt": b"x" for number in range(20_000)})
    assert len(json.dumps({"files": files})) > 2**21

    response = api.admin.post(f"{path_of(w, made)}/outputs", json={"files": files})

    assert response.status_code == 201, response.text
