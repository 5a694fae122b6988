"""From a run to a model: a version of stored outputs, and the best of a search."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.objects import keys_of
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import send, sha256, unique_bytes
from tests.support.runs import finish, open_outputs, outputs, path_of, report, run


def register(api, w, made, **body):
    return api.admin.post(f"{path_of(w, made)}/register", json=body)


def registered(api, w, made, **body):
    response = register(api, w, made, **body)
    assert response.status_code == 201, response.text
    return response.json()


def best(api, w, made, **body):
    return api.admin.post(f"{path_of(w, made)}/register-best", json={"model_path": "m.pkl", **body})


def shown(api, w, made):
    return api.admin.get(path_of(w, made)).json()


@pytest.fixture
def made(api, w):
    """A run with a file and a folder among its outputs."""
    found = run(api.admin, w, id="r1")
    files = {
        "outputs/model.pkl": unique_bytes(),
        "outputs/best_model/weights.bin": unique_bytes(),
        "outputs/best_model/sub/conf.json": b"{}",
        "outputs/best_model.txt": b"beside",
        "logs/train.txt": b"log",
    }
    outputs(api.admin, w, found, files)
    return {**found, "files": files}


def test_a_file_among_the_outputs_becomes_a_version(api, w, made):
    version = registered(
        api, w, made, name="ridge", model_path="outputs/model.pkl", tags={"a": "b"}, properties={"p": "q"},
        description="d", framework="sklearn", framework_version="1.5", resource_requirements={"cpu": 1},
    )  # fmt: skip

    data = made["files"]["outputs/model.pkl"]
    assert (version["id"], version["state"], version["run"]) == ("ridge:1", "ready", "exp/r1")
    assert [(file["path"], file["sha256"]) for file in version["files"]] == [("model.pkl", sha256(data))]
    assert (version["tags"], version["properties"], version["description"]) == ({"a": "b"}, {"p": "q"}, "d")
    assert (version["framework"], version["framework_version"]) == ("sklearn", "1.5")
    assert version["resource_requirements"]["cpu"] == 1
    assert api.admin.get(f"{w}/models/ridge/versions/latest/files/model.pkl").content == data
    assert len(keys_of(api.stack.s3, sha256(data))) == 1
    assert api.admin.get(f"{w}/models/ridge/versions/1").json()["run"] == "exp/r1"


@pytest.mark.parametrize("path", ["outputs/best_model", "best_model", "outputs/best_model/"])
def test_of_a_folder_only_the_last_part_of_its_path_is_kept(api, w, made, path):
    version = registered(api, w, made, name="ridge", model_path=path)

    assert [file["path"] for file in version["files"]] == ["best_model/sub/conf.json", "best_model/weights.bin"]


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("outputs", 4),
        ("logs", 1),
        ("outputs/logs/train.txt", 1),
        ("best_model/sub", 1),
        ("best_model.txt", 1),
    ],
)
def test_a_path_is_a_file_or_a_folder_with_or_without_outputs(api, w, made, path, files):
    version = registered(api, w, made, name="ridge", model_path=path)

    assert len(version["files"]) == files
    assert {file["path"].split("/")[0] for file in version["files"]} == {path.rsplit("/", 1)[-1]}


def test_without_a_path_it_is_the_model_s_name(api, w, made):
    assert registered(api, w, made, name="best_model")["files"][0]["path"] == "best_model/sub/conf.json"


@pytest.mark.parametrize("path", ["model", "best_mode", "best_model/weights", "train.txt", "best_model/*"])
def test_a_path_that_is_not_there_is_answered_with_what_is(api, w, made, path):
    problem = assert_problem(register(api, w, made, name="ridge", model_path=path), "output-not-found")

    assert problem["files"] == sorted(made["files"])
    assert "logs/train.txt" in problem["detail"]
    assert_problem(api.admin.get(f"{w}/models/ridge"), "not-found")


def test_at_most_fifty_files_are_listed(api, w):
    made = run(api.admin, w)
    outputs(api.admin, w, made, {f"f{number:02}": b"x" for number in range(60)})

    problem = assert_problem(register(api, w, made, name="nope"), "output-not-found")

    assert problem["files"] == [f"f{number:02}" for number in range(50)]
    assert "60" in problem["detail"]


def test_an_unfinished_upload_is_nothing_to_register(api, w):
    made = run(api.admin, w)
    files = {"m.pkl": unique_bytes()}
    send(api.admin, open_outputs(api.admin, w, made, files), files)

    problem = assert_problem(register(api, w, made, name="m", model_path="m.pkl"), "output-not-found")

    assert "not committed" in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a b"},
        {"name": "m", "model_path": "../m.pkl"},
        {"name": "m", "model_path": "/m.pkl"},
        {"name": "m", "model_path": ""},
        {"name": "m", "framework_version": "1"},
        {"name": "m", "nonsense": 1},
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(api, w, made, body):
    assert_problem(register(api, w, made, **body), "invalid-request")


def test_a_run_is_registered_again_and_also_after_its_end(api, w, made):
    finish(api.admin, w, made)

    versions = [registered(api, w, made, name="ridge", model_path="model.pkl")["version"] for _ in range(2)]

    assert versions == [1, 2]


def test_versions_are_found_by_their_run(api, w, made):
    other = run(api.admin, w, id="r2")
    outputs(api.admin, w, other, {"model.pkl": unique_bytes()})
    registered(api, w, made, name="ridge", model_path="model.pkl")
    registered(api, w, other, name="ridge", model_path="model.pkl")

    def ids(path, **params):
        return [found["id"] for found in api.admin.get(f"{w}/{path}", params=params).json()["items"]]

    assert ids("model-versions", run="exp/r1") == ["ridge:1"]
    assert ids("model-versions", run="exp/r2", name="ridge") == ["ridge:2"]
    assert ids("model-versions", run="exp/nope") == []
    models = api.admin.get(f"{w}/models", params={"run": "exp/r1"}).json()["items"]
    assert models == []  # its latest version was made of another run


def test_a_registration_that_is_sent_twice_is_one_version(api, w, made):
    path, key = f"{path_of(w, made)}/register", {"Idempotency-Key": "a-registration"}
    body = {"name": "ridge", "model_path": "model.pkl"}

    answers = [api.admin.post(path, json=body, headers=key).json() for _ in range(2)]

    assert answers[0] == answers[1]
    assert len(api.admin.get(f"{w}/models/ridge/versions").json()["items"]) == 1


def test_audit_and_events_tell_of_it_as_of_any_version(api, w, made):
    registered(api, w, made, name="ridge", model_path="model.pkl")

    entries = [entry["action"] for entry in api.admin.get(f"{w}/audit").json()["items"]]
    events = api.sql("SELECT subject FROM events WHERE name = 'model.registered' ORDER BY id DESC LIMIT 1")

    assert entries[:3] == ["operation.inspect", "model.version.commit", "model.version.open"]
    assert events == [{"subject": "models/ridge/versions/1"}]


def test_outputs_with_damaged_bytes_do_not_become_a_version(api, w, made):
    api.sql("UPDATE blobs SET damaged_at = now() WHERE sha256 = %s", sha256(made["files"]["outputs/model.pkl"]))

    problem = assert_problem(register(api, w, made, name="ridge", model_path="model.pkl"), "blobs-missing")

    assert problem["paths"] == ["model.pkl"]
    assert_problem(api.admin.get(f"{w}/models/ridge"), "not-found")


def test_an_api_that_is_killed_between_outputs_and_registration_has_lost_nothing(api, w, made):
    api.kill_api()
    api.start_api()

    version = registered(api, w, made, name="ridge", model_path="best_model")

    assert api.admin.get(f"{w}/models/ridge/versions/1/files/best_model/weights.bin").status_code == 200
    assert version["state"] == "ready"


SEARCH = {"primary_metric": "auc", "goal": "maximize"}


@pytest.fixture
def search(api, w):
    """A search of three children; the second is the best by auc, the third by loss."""
    parent = run(api.admin, w, "AutoML", id="search", **SEARCH)
    for iteration, (auc, loss) in enumerate([(0.7, 0.3), (0.9, 0.2), (0.8, 0.1)]):
        child = run(api.admin, w, "AutoML", id=f"try-{iteration}", parent="search", iteration=iteration)
        report(api.admin, w, child, auc=1.0, loss=1.0)
        report(api.admin, w, child, auc=auc, loss=loss)
        outputs(api.admin, w, child, {"outputs/m.pkl": f"{w} {iteration}".encode()})
        finish(api.admin, w, child)
    return parent


def test_without_a_choice_it_is_the_best_by_the_primary_metric(api, w, search):
    version = best(api, w, search, tags={"a": "b"}).json()

    assert (version["run"], version["state"], version["tags"]) == ("AutoML/try-1", "ready", {"a": "b"})
    assert version["model_id"] == version["name"] == "AutoML-try-1"
    assert version["id"] == "AutoML-try-1:1"
    assert shown(api, w, search)["model_id"] == "AutoML-try-1"
    assert shown(api, w, {**search, "id": "try-1"})["model_id"] == "AutoML-try-1"
    assert shown(api, w, {**search, "id": "try-0"})["model_id"] is None
    assert best(api, w, search).json()["id"] == "AutoML-try-1:2"


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"iteration": 0}, "try-0"),
        ({"iteration": 2}, "try-2"),
        ({"metric": "auc"}, "try-1"),
        ({"metric": "auc", "goal": "minimize"}, "try-0"),
        ({"metric": "loss", "goal": "minimize"}, "try-2"),
        ({"metric": "loss", "goal": "maximize"}, "try-0"),
    ],
)
def test_a_child_is_picked_by_iteration_or_by_metric(api, w, search, choice, chosen):
    assert best(api, w, search, **choice).json()["run"] == f"AutoML/{chosen}"


def test_the_best_registered_many_times_at_once_is_as_many_versions(api, w, search):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: best(api, w, search), range(8)))

    assert [answer.status_code for answer in answers] == [201] * 8
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 9))


def test_a_name_that_is_given_is_the_model_id(api, w, search):
    version = best(api, w, search, name="winner").json()

    assert (version["id"], version["model_id"]) == ("winner:1", "winner")
    assert shown(api, w, search)["model_id"] == "winner"


def test_the_lower_value_is_the_best_where_the_goal_is_to_minimize(api, w):
    parent = run(api.admin, w, id="top", primary_metric="loss", goal="minimize")
    for loss in (1e-9, -5.0, 1e300):
        child = run(api.admin, w, parent="top")
        report(api.admin, w, child, loss=loss)
        outputs(api.admin, w, child, {"m.pkl": f"{w} {loss}".encode()})

    data = best(api, w, parent).json()["files"][0]["sha256"]

    assert data == sha256(f"{w} -5.0".encode())


def test_of_equal_values_the_lowest_iteration_is_the_best(api, w):
    parent = run(api.admin, w, id="top", **SEARCH)
    for iteration in (None, 7, 3, 5):
        more = {} if iteration is None else {"iteration": iteration}
        child = run(api.admin, w, id=f"try-{iteration}", parent="top", **more)
        report(api.admin, w, child, auc=0.5)
        outputs(api.admin, w, child, {"m.pkl": unique_bytes()})

    assert best(api, w, parent).json()["run"] == "exp/try-3"


def test_children_that_failed_or_did_not_measure_it_are_not_the_best(api, w):
    parent = run(api.admin, w, id="top", **SEARCH)
    for name, auc, state in [("failed", 0.9, "failed"), ("cancelled", 0.8, "cancelled"), ("good", 0.1, "completed")]:
        child = run(api.admin, w, id=name, parent="top")
        report(api.admin, w, child, auc=auc)
        outputs(api.admin, w, child, {"m.pkl": unique_bytes()})
        finish(api.admin, w, child, state)
    run(api.admin, w, id="silent", parent="top")

    assert best(api, w, parent).json()["run"] == "exp/good"


def test_without_children_nothing_is_picked(api, w):
    parent = run(api.admin, w, **SEARCH)
    run(api.admin, w, id="grandchild-of-nobody")

    for choice in ({}, {"iteration": 0}, {"metric": "auc"}):
        problem = assert_problem(best(api, w, parent, **choice), "no-such-child")
        assert "no child runs" in problem["detail"]


def test_an_iteration_that_is_not_there_is_answered_with_those_that_are(api, w, search):
    problem = assert_problem(best(api, w, search, iteration=3), "no-such-child")

    assert problem["available"] == [0, 1, 2]


def test_a_metric_that_no_child_has_is_answered_with_those_there_are(api, w, search):
    problem = assert_problem(best(api, w, search, metric="f1", goal="maximize"), "no-such-child")

    assert problem["available"] == ["auc", "loss"]


def test_a_metric_that_is_not_the_primary_one_needs_a_goal(api, w, search):
    problem = assert_problem(best(api, w, search, metric="loss"), "invalid-request")

    assert paths_of(problem) == ["body.goal"]
    assert "'auc'" in problem["detail"]


def test_a_parent_without_a_primary_metric_needs_a_choice(api, w):
    parent = run(api.admin, w, id="top")
    run(api.admin, w, parent="top", iteration=0)

    assert paths_of(assert_problem(best(api, w, parent), "invalid-request")) == ["body.metric"]


@pytest.mark.parametrize(
    "choice",
    [
        {"iteration": 0, "metric": "auc"},
        {"goal": "minimize"},
        {"iteration": 0, "goal": "minimize"},
        {"iteration": -1},
        {"metric": "a b"},
        {"model_path": "../m.pkl"},
        {"model_path": None},
        {"name": "-"},
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(api, w, search, choice):
    assert_problem(best(api, w, search, **choice), "invalid-request")


def test_what_could_not_be_registered_leaves_no_model_id(api, w, search):
    assert_problem(best(api, w, search, model_path="nope"), "output-not-found")

    assert shown(api, w, search)["model_id"] is None


def test_a_generated_name_is_never_too_long(api, w):
    parent = run(api.admin, w, "e" * 255, id="p" * 255, **SEARCH)
    child = run(api.admin, w, "e" * 255, id="c" * 255, parent="p" * 255)
    report(api.admin, w, child, auc=1)
    outputs(api.admin, w, child, {"m.pkl": unique_bytes()})

    names = {best(api, w, parent).json()["model_id"] for _ in range(2)}

    assert len(names) == 1
    assert len(names.pop()) == 255


def test_grandchildren_are_not_picked(api, w, search):
    grandchild = run(api.admin, w, "AutoML", parent="try-0")
    report(api.admin, w, grandchild, auc=1.0)

    assert best(api, w, search).json()["run"] == "AutoML/try-1"
