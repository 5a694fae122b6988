"""What is said about versions: set, filtered by, changed, approved, deleted."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.problems import assert_problem, paths_of
from tests.support.registry import (
    environment,
    manifest,
    open_version,
    register,
    send,
    service_body,
    snapshot,
    unique_bytes,
)

FILES = {"m.pkl": b"always the same"}
SAID = {
    "description": "a ridge",
    "tags": {"area": "demo", "stage": "test"},
    "properties": {"commit": "abc"},
    "framework": "ScikitLearn",
    "framework_version": "1.7",
    "resource_requirements": {"cpu": 0.5, "memory_gb": 1.0},
    "datasets": [{"scenario": "training", "id": "diabetes:3"}],
    "sample_input": {"data": [[1, 2]]},
    "sample_output": [3.5],
}


def version_of(http, w, name, **said):
    return register(http, w, name, FILES, **said)


def names(page):
    return [item["id"] for item in page.json()["items"]]


def test_what_was_said_is_shown(api, w):
    made = version_of(api.admin, w, "ridge", **SAID)

    assert {field: made[field] for field in SAID} == SAID | {
        "resource_requirements": {"cpu": 0.5, "memory_gb": 1.0, "gpu": None}
    }
    assert (made["aliases"], made["requires_approval"], made["approved_at"]) == ([], False, None)


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"tags": {f"k{n}": "v" * 4096 for n in range(256)}}, "tags"),
        ({"tags": {f"k{n}": "" for n in range(1001)}}, "tags"),
        ({"tags": {"k": 1}}, "tags"),
        ({"tags": {"": "v"}}, "tags"),
        ({"properties": {"k" * 257: "v"}}, "properties"),
        ({"datasets": [{"scenario": "training"}]}, "datasets"),
        ({"datasets": [{"scenario": "s", "id": "x"}] * 1001}, "datasets"),
        ({"sample_input": "x" * 300_000}, "sample_input"),
        ({"resource_requirements": {"cpu": 0}}, "resource_requirements"),
        ({"resource_requirements": {"memory_gb": -1}}, "resource_requirements"),
        ({"state": "ready"}, "state"),
        ({"version": 7}, "version"),
        ({"approved_by": "me"}, "approved_by"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_place(api, w, said, path):
    answer = api.admin.post(f"{w}/models/ridge/versions", json={"files": manifest(FILES), **said})

    problem = assert_problem(answer, "invalid-request")
    assert path in problem["errors"][0]["path"]


@pytest.fixture(scope="module")
def shelf(api):
    """A workspace with versions that differ in what is said of them; nothing in it is changed."""
    w = f"/v1/workspaces/{api.workspace()}"
    version_of(api.admin, w, "ridge", tags={"stage": "test", "area": "a=b"}, framework="ScikitLearn")
    version_of(api.admin, w, "ridge", tags={"stage": "prod"}, framework="ScikitLearn", properties={"commit": "abc"})
    version_of(api.admin, w, "forest", tags={"stage": "prod", "area": "x"}, framework="Onnx")
    version_of(api.admin, w, "boost", datasets=[{"scenario": "training", "id": "diabetes:3"}])
    return w


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["boost:1", "forest:1", "ridge:2", "ridge:1"]),
        ({"tag": "stage"}, ["forest:1", "ridge:2", "ridge:1"]),
        ({"tag": "stage=prod"}, ["forest:1", "ridge:2"]),
        ({"tag": ["stage=prod", "area"]}, ["forest:1"]),
        ({"tag": "area=a=b"}, ["ridge:1"]),
        ({"tag": "stage="}, []),
        ({"property": "commit=abc"}, ["ridge:2"]),
        ({"property": "commit", "tag": "area"}, []),
        ({"framework": "ScikitLearn"}, ["ridge:2", "ridge:1"]),
        ({"dataset": "diabetes:3"}, ["boost:1"]),
        ({"dataset": "training"}, []),
        ({"name": "ridge"}, ["ridge:2", "ridge:1"]),
        ({"latest_only": True}, ["boost:1", "forest:1", "ridge:2"]),
        ({"latest_only": True, "tag": "stage=test"}, []),
        ({"order_by": "name"}, ["boost:1", "forest:1", "ridge:1", "ridge:2"]),
        ({"order_by": "version", "name": "ridge"}, ["ridge:2", "ridge:1"]),
        ({"order_by": "created_at", "order": "asc"}, ["ridge:1", "ridge:2", "forest:1", "boost:1"]),
        ({"tag": "it's; DROP TABLE models --"}, []),
        ({"tag": "x\"}'::jsonb --="}, []),
    ],
)
def test_versions_are_found_by_what_is_said_of_them(api, shelf, query, found):
    assert names(api.admin.get(f"{shelf}/model-versions", params=query)) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["boost", "forest", "ridge"]),
        ({"tag": "stage=test"}, []),
        ({"tag": "stage=prod"}, ["forest", "ridge"]),
        ({"order_by": "name"}, ["boost", "forest", "ridge"]),
        ({"order_by": "name", "order": "desc"}, ["ridge", "forest", "boost"]),
        ({"order_by": "version"}, ["ridge", "boost", "forest"]),
        ({"name": "forest"}, ["forest"]),
    ],
)
def test_models_are_found_by_their_latest_version(api, shelf, query, found):
    items = api.admin.get(f"{shelf}/models", params=query).json()["items"]

    listed = [item["name"] for item in items]
    assert (sorted(listed), listed[:1]) == (sorted(found), found[:1])


@pytest.mark.parametrize("order_by", ["created_at", "name", "version"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("what", ["models", "model-versions"])
def test_pages_hold_everything_once_in_any_order(api, shelf, what, order_by, order):
    query = {"order_by": order_by, "order": order}
    whole = api.admin.get(f"{shelf}/{what}", params=query).json()["items"]

    pages, token = [], None
    while token is not None or not pages:
        page = api.admin.get(f"{shelf}/{what}", params={**query, "limit": 1, "page_token": token}).json()
        pages += page["items"]
        token = page["next_page_token"]

    assert pages == whole


def test_a_token_of_another_order_is_refused(api, shelf):
    token = api.admin.get(f"{shelf}/model-versions", params={"limit": 1}).json()["next_page_token"]

    for query in ({"order_by": "name"}, {"order": "asc"}):
        answer = api.admin.get(f"{shelf}/model-versions", params={**query, "page_token": token})
        assert_problem(answer, "invalid-request")


@pytest.mark.parametrize("parameter", ["tag", "property"])
def test_a_filter_that_is_longer_than_any_tag_is_refused_by_its_place(api, shelf, parameter):
    url = f"{shelf}/model-versions"

    assert api.admin.get(url, params={parameter: "k" * 256 + "=" + "v" * 4096}).status_code == 200
    problem = assert_problem(api.admin.get(url, params={parameter: ["k", "k" * 4354]}), "invalid-request")

    assert paths_of(problem) == [f"query.{parameter}[1]"]


@pytest.mark.parametrize(
    "query",
    [{"order_by": "state"}, {"order": "up"}, {"tag": "=x"}, {"tags": "x"}, {"tag": ["t"] * 21}, {"name": "a b"}],
)
def test_a_filter_that_is_none_is_refused(api, shelf, query):
    assert_problem(api.admin.get(f"{shelf}/model-versions", params=query), "invalid-request")


def test_what_is_said_can_be_changed_and_the_rest_stays(api, w):
    made = version_of(api.admin, w, "ridge", **SAID)
    change = {"description": "better", "tags": {"new": "tag"}, "sample_output": None}

    changed = api.admin.patch(f"{w}/models/ridge/versions/1", json=change).json()

    assert {**made, **change, "etag": changed["etag"], "updated_at": changed["updated_at"]} == changed
    assert changed["etag"] != made["etag"]
    actions = [entry["action"] for entry in api.admin.get(f"{w}/audit").json()["items"]]
    assert actions[0] == "model.version.update"


def test_properties_only_grow(api, w):
    version_of(api.admin, w, "ridge", properties={"commit": "abc"})
    path = f"{w}/models/ridge/versions/1"

    assert api.admin.patch(path, json={"properties": {"who": "me", "commit": "abc"}}).status_code == 200
    problem = assert_problem(api.admin.patch(path, json={"properties": {"commit": "x", "more": "y"}}), "immutable")

    assert problem["keys"] == ["commit"]
    assert api.admin.get(path).json()["properties"] == {"commit": "abc", "who": "me"}


def test_properties_do_not_grow_without_end(api, w):
    version_of(api.admin, w, "ridge", properties={f"k{n}": "v" * 4000 for n in range(12)})
    path = f"{w}/models/ridge/versions/1"

    problem = assert_problem(
        api.admin.patch(path, json={"properties": {f"m{n}": "v" * 4000 for n in range(12)}}), "invalid-request"
    )

    assert problem["errors"][0]["path"] == "body.properties"


def test_latest_is_right_whatever_overlaps(api, w):
    data = unique_bytes()
    for _ in range(6):
        opened = open_version(api.admin, w, "raced", {"m": data})
        send(api.admin, opened, {"m": data})
    for round_ in range(4):
        with ThreadPoolExecutor(6) as pool:
            if round_ == 0:
                work = [("POST", f"versions/{number}/commit") for number in (6, 2, 5, 1, 4, 3)]
            else:
                top = api.admin.get(f"{w}/models/raced").json()["latest"]["version"]
                work = [("DELETE", f"versions/{top}"), ("PUT", "aliases/a"), ("PATCH", f"versions/{top - 1}")]
            bodies = {"PUT": {"version": 1}, "PATCH": {"description": str(round_)}}
            asked = [(method, f"{w}/models/raced/{path}", bodies.get(method)) for method, path in work]
            done = pool.map(lambda call: api.admin.request(call[0], call[1], json=call[2]), asked)
        assert {answer.status_code for answer in done} <= {200, 204}
        ready = [item["version"] for item in api.admin.get(f"{w}/models/raced/versions").json()["items"]]
        assert api.admin.get(f"{w}/models/raced/versions/latest").json()["version"] == max(ready)


def test_of_two_who_change_what_they_saw_one_is_told(api, w):
    etag = version_of(api.admin, w, "ridge")["etag"]
    path = f"{w}/models/ridge/versions/1"

    first = api.admin.patch(path, json={"description": "one"}, headers={"If-Match": etag})
    second = api.admin.patch(path, json={"description": "two"}, headers={"If-Match": etag})

    assert first.status_code == 200
    assert first.headers["etag"] == first.json()["etag"]
    assert_problem(second, "precondition-failed")
    assert api.admin.get(path).json()["description"] == "one"


@pytest.mark.parametrize(
    "body", [{"files": []}, {"framework": "x"}, {"name": "y"}, {"state": "ready"}, {"tags": {"a": 1}}]
)
def test_what_never_changes_cannot_be_sent(api, w, body):
    version_of(api.admin, w, "ridge")

    assert_problem(api.admin.patch(f"{w}/models/ridge/versions/1", json=body), "invalid-request")


def test_a_version_that_requires_approval_is_deployed_only_after_it(api, workspace, w):
    body = service_body(api, workspace)
    version_of(api.admin, w, "guarded", requires_approval=True)
    body["models"] = ["guarded:1"]
    deployer, contributor = api.as_role("deployer", workspace), api.as_role("contributor", workspace)

    assert_problem(deployer.post(f"{w}/services", json=body), "approval-needed")
    assert_problem(contributor.post(f"{w}/models/guarded/versions/1/approve"), "forbidden")
    approved = deployer.post(f"{w}/models/guarded/versions/1/approve").json()
    again = deployer.post(f"{w}/models/guarded/versions/1/approve").json()

    assert approved["approved_by"] == again["approved_by"]
    assert approved["approved_at"] == again["approved_at"] is not None
    assert deployer.post(f"{w}/services", json=body).status_code == 202


def test_a_version_in_use_is_not_deleted_and_its_users_are_named(api, workspace, w):
    body = service_body(api, workspace, models=["ridge:1"])
    assert api.admin.post(f"{w}/services", json=body).status_code == 202
    api.admin.put(f"{w}/models/ridge/aliases/champion", json={"version": 1})

    one = assert_problem(api.admin.delete(f"{w}/models/ridge/versions/1"), "in-use")
    whole = assert_problem(api.admin.delete(f"{w}/models/ridge"), "in-use")

    assert one["used_by"] == whole["used_by"] == ["alias champion", "services/ridge-svc"]
    assert api.admin.get(f"{w}/models/ridge/versions/1").status_code == 200


def test_a_deleted_version_is_gone_and_its_number_is_not_given_again(api, w):
    for _ in range(2):
        version_of(api.admin, w, "ridge")

    assert api.admin.delete(f"{w}/models/ridge/versions/2").status_code == 204

    assert_problem(api.admin.get(f"{w}/models/ridge/versions/2"), "not-found")
    assert_problem(api.admin.delete(f"{w}/models/ridge/versions/2"), "not-found")
    assert api.admin.get(f"{w}/models/ridge/versions/latest").json()["version"] == 1
    assert version_of(api.admin, w, "ridge")["version"] == 3


def test_a_deleted_model_is_gone_and_its_counter_goes_on(api, w):
    for _ in range(2):
        version_of(api.admin, w, "ridge")

    assert api.admin.delete(f"{w}/models/ridge").status_code == 204

    assert_problem(api.admin.get(f"{w}/models/ridge"), "not-found")
    assert_problem(api.admin.get(f"{w}/models/ridge/versions"), "not-found")
    assert api.admin.get(f"{w}/models").json()["items"] == []
    assert_problem(api.admin.delete(f"{w}/models/ridge"), "not-found")
    assert version_of(api.as_role("contributor", w.rsplit("/", 1)[1]), w, "ridge")["version"] == 3
    assert api.admin.get(f"{w}/models/ridge").json()["latest"]["version"] == 3


def test_a_version_is_deleted_only_as_it_was_seen(api, w):
    etag = version_of(api.admin, w, "ridge")["etag"]
    path = f"{w}/models/ridge/versions/1"
    api.admin.patch(path, json={"description": "changed"})

    assert_problem(api.admin.delete(path, headers={"If-Match": etag}), "precondition-failed")

    assert api.admin.get(path).status_code == 200


def test_deploying_and_deleting_at_once_never_leaves_a_service_without_its_model(api, workspace, w):
    environment(api, workspace)
    source = snapshot(api.admin, w, {"score.py": b"def init(): pass\ndef run(data): return data\n"})
    inference = {"entry_script": "score.py", "snapshot": source["digest"], "environment": "env:1"}
    for number in range(8):
        version = version_of(api.admin, w, "raced")["version"]
        body = {"name": f"raced-{number}", "models": [f"raced:{version}"], "inference_config": inference}
        barrier = threading.Barrier(2)

        def both(method, path, json=None, barrier=barrier):
            barrier.wait()
            return api.admin.request(method, path, json=json).status_code

        with ThreadPoolExecutor(2) as pool:
            deployed = pool.submit(both, "POST", f"{w}/services", body)
            deleted = pool.submit(both, "DELETE", f"{w}/models/raced/versions/{version}")

        assert (deployed.result(), deleted.result()) in {(202, 409), (404, 204)}


def test_a_hundred_registrations_and_deletions_at_once_lose_and_double_nothing(api, w):
    data = unique_bytes()
    register(api.admin, w, "busy", {"m": data})

    def one(number):
        made = register(api.admin, w, "busy", {"m": data})
        if number % 2:
            assert api.admin.delete(f"{w}/models/busy/versions/{made['version']}").status_code == 204
        return made["version"]

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(one, range(40)))

    assert sorted(numbers) == list(range(2, 42))
    listed = [item["version"] for item in api.admin.get(f"{w}/models/busy/versions").json()["items"]]
    assert sorted(listed) == [1, *sorted(numbers[::2])]
    assert api.admin.get(f"{w}/models/busy").json()["latest"]["version"] == max(listed)
