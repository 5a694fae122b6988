"""Services that change: a new revision beside the one that serves, or an old one once more."""

from __future__ import annotations

import pytest

from tests.support.attempt import Attempt, observe, ready
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import node, register, service, snapshot, unique_bytes

PATH = "/services/ridge-svc"


@pytest.fixture
def host(api):
    """A node of this test's own."""
    return node(api)


@pytest.fixture
def first(api, workspace, w, host):
    """A healthy service with one replica of ridge:1; the replica's name."""
    made = service(api, workspace)
    replica = bring_up(api, host, made["operation"], [])
    register(api.admin, w, "ridge", {"model.pkl": unique_bytes()})  # ridge:2
    return replica


def bring_up(api, host, operation, others, port=9000):
    """Play a worker and a node until the operation has succeeded; the new replica's name."""
    attempt = Attempt(api, operation, node=host)
    [replica] = attempt.place().json()["items"]
    observe(api, host, *others, ready(replica["name"], port))
    assert attempt.activate().status_code == 204
    attempt.end()
    return replica["name"]


def update(api, w, **body):
    response = api.admin.patch(w + PATH, json=body)
    assert response.status_code in {200, 202}, response.text
    return response


def show(api, w):
    return api.admin.get(w + PATH).json()


def routes(api):
    services = api.gateway.get("/v1/gateway/routes").json()["http"].get("services", {})
    return {name.rpartition("-")[0]: one["loadBalancer"]["servers"] for name, one in services.items()}


def wanted(api, host):
    return [spec["name"] for spec in api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"]]


def test_a_new_model_runs_beside_the_old_one_until_it_takes_over(api, w, host, first):
    response = update(api, w, models=["ridge:2"])
    operation = response.headers["location"].rpartition("/")[2]
    attempt = Attempt(api, operation, node=host)
    assert attempt.claim["spec"]["replica"]["models"][0]["version"] == 2

    [second] = attempt.place().json()["items"]
    observe(api, host, ready(first), ready(second["name"], 9001))
    beside = show(api, w)
    assert (beside["state"], [r["traffic"] for r in beside["revisions"]]) == ("healthy", [0, 100])
    assert (beside["generation"], beside["observed_generation"]) == (2, 1)
    assert sorted(wanted(api, host)) == sorted([first, second["name"]])
    attempt.activate()
    assert wanted(api, host) != [second["name"]]  # the gateway may not know yet
    attempt.end()

    after = show(api, w)
    assert [(r["name"], r["models"], r["traffic"]) for r in after["revisions"]] == [
        ("r2", ["ridge:2"], 100),
        ("r1", ["ridge:1"], 0),
    ]
    assert (after["state"], after["observed_generation"], after["reason"]) == ("healthy", 2, "")
    assert wanted(api, host) == [second["name"]]
    assert after["revisions"][0]["served_at"] > after["revisions"][1]["served_at"]
    assert routes(api)["ridge-svc"] == [{"url": "http://127.0.0.1:9001"}]


@pytest.mark.parametrize("is_activated", [False, True])
def test_an_update_that_fails_leaves_what_serves(api, w, host, first, is_activated):
    since = show(api, w)["revisions"][0]["served_at"]
    operation = update(api, w, models=["ridge:2"]).headers["location"].rpartition("/")[2]
    attempt = Attempt(api, operation, node=host)
    [second] = attempt.place().json()["items"]
    observe(api, host, ready(first), ready(second["name"], 9001))
    if is_activated:
        attempt.activate()

    attempt.end("failed", error={"code": "warm-up-failed", "message": "it does not answer"})

    after = show(api, w)
    assert (after["state"], after["reason"]) == ("healthy", "its last update failed: it does not answer")
    assert [(r["name"], r["traffic"]) for r in after["revisions"]] == [("r2", 0), ("r1", 100)]
    assert [r["served_at"] for r in after["revisions"]] == [None, since]
    assert (after["generation"], after["observed_generation"]) == (2, 1)
    assert after["inference_config"] == after["revisions"][1]["inference_config"]
    assert wanted(api, host) == [first]
    assert routes(api)["ridge-svc"] == [{"url": "http://127.0.0.1:9000"}]
    assert api.admin.delete(f"{w}/models/ridge/versions/2").status_code == 204  # nothing goes back to it


def test_a_cancelled_update_leaves_what_serves(api, w, host, first):
    operation = update(api, w, models=["ridge:2"]).headers["location"].rpartition("/")[2]
    attempt = Attempt(api, operation, node=host)
    attempt.place()

    api.admin.post(f"/v1/operations/{operation}/cancel")
    attempt.end("cancelled")

    assert (show(api, w)["state"], wanted(api, host)) == ("healthy", [first])


def test_one_change_at_a_time(api, w, host, first):
    operation = update(api, w, models=["ridge:2"]).headers["location"].rpartition("/")[2]

    refused = assert_problem(api.admin.patch(w + PATH, json={"models": ["ridge:1"]}), "wrong-state")
    assert operation in refused["detail"]
    assert_problem(api.admin.post(f"{w}{PATH}/rollback", json={}), "wrong-state")
    assert update(api, w, description="meanwhile").json()["description"] == "meanwhile"


def test_what_is_said_of_a_service_changes_at_once(api, w, first):
    response = update(api, w, description="new", tags={"a": "1"}, properties={"team": "x"})

    assert (response.status_code, "location" in response.headers) == (200, False)
    assert (response.json()["description"], response.json()["tags"]) == ("new", {"a": "1"})
    assert update(api, w, properties={"more": "y"}).json()["properties"] == {"team": "x", "more": "y"}
    assert_problem(api.admin.patch(w + PATH, json={"properties": {"team": "z"}}), "immutable")
    assert len(show(api, w)["revisions"]) == 1


@pytest.mark.parametrize("is_of_an_earlier_release", [False, True])
def test_the_same_again_makes_no_revision(api, workspace, w, first, is_of_an_earlier_release):
    said = show(api, w)
    if is_of_an_earlier_release:  # which knew no containers
        kept = "service_id = (SELECT s.id FROM services s JOIN workspaces w ON w.id = s.workspace_id WHERE w.name = %s)"
        without = "deployment_config = deployment_config - 'container_resources'"
        api.sql(f"UPDATE revisions SET {without} WHERE {kept}", workspace)

    response = update(
        api, w, models=["ridge:1"], inference_config=said["inference_config"],
        deployment_config=said["deployment_config"],
    )  # fmt: skip

    assert response.status_code == 200
    assert len(response.json()["revisions"]) == 1


def test_what_is_left_out_stays_as_it_serves(api, w, host, first):
    operation = update(api, w, deployment_config={"num_replicas": 1, "collect_model_data": True}).json()["operation"]

    claim = Attempt(api, operation, node=host).claim["spec"]

    assert claim["replica"]["collects_data"]
    assert claim["replica"]["models"][0]["version"] == 1
    [old] = api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"]
    assert not old["collects_data"], "the old revision is not what the new one is"


def test_if_match_is_honoured(api, w, first):
    etag = api.admin.get(w + PATH).headers["etag"]
    update(api, w, description="somebody else")

    refused = api.admin.patch(w + PATH, json={"description": "mine"}, headers={"If-Match": etag})

    assert_problem(refused, "precondition-failed")


def test_a_rollback_runs_what_served_before_as_a_new_revision(api, w, host, first):
    operation = update(api, w, models=["ridge:2"]).json()["operation"]
    second = bring_up(api, host, operation, [ready(first)], 9001)
    assert_problem(api.admin.delete(f"{w}/models/ridge/versions/1"), "in-use")  # one may go back to it

    response = api.admin.post(f"{w}{PATH}/rollback", json={})
    assert response.status_code == 202, response.text
    bring_up(api, host, response.json()["operation"], [ready(second, 9001)], 9002)

    assert [(r["name"], r["models"], r["traffic"]) for r in show(api, w)["revisions"]] == [
        ("r3", ["ridge:1"], 100),
        ("r2", ["ridge:2"], 0),
        ("r1", ["ridge:1"], 0),
    ]
    events = api.sql("SELECT name FROM events WHERE subject = 'services/ridge-svc' ORDER BY id")
    assert [each["name"] for each in events if each["name"] in {"service.updated", "service.rolled_back"}][-2:] == [
        "service.updated",
        "service.rolled_back",
    ]


def test_a_rollback_to_what_never_served_is_refused(api, w, host, first):
    assert_problem(api.admin.post(f"{w}{PATH}/rollback", json={}), "wrong-state")
    assert_problem(api.admin.post(f"{w}{PATH}/rollback", json={"revision": "r1"}), "wrong-state")
    assert_problem(api.admin.post(f"{w}{PATH}/rollback", json={"revision": "r9"}), "not-found")
    refused = assert_problem(api.admin.post(f"{w}{PATH}/rollback", json={"revision": "first"}), "invalid-request")
    assert paths_of(refused) == ["body.revision"]
    attempt = Attempt(api, update(api, w, models=["ridge:2"]).json()["operation"], node=host)
    attempt.end("failed", error={"code": "x", "message": "y"})
    assert_problem(api.admin.post(f"{w}{PATH}/rollback", json={"revision": "r2"}), "wrong-state")


def test_a_restart_is_the_same_in_new_replicas(api, w, host, first):
    response = api.admin.post(f"{w}{PATH}/restart")
    assert response.status_code == 202, response.text
    assert_problem(api.admin.post(f"{w}{PATH}/restart"), "wrong-state")
    second = bring_up(api, host, response.headers["location"].rpartition("/")[2], [ready(first)], 9001)

    after = show(api, w)
    assert [(r["name"], r["models"], r["traffic"]) for r in after["revisions"]] == [
        ("r2", ["ridge:1"], 100),
        ("r1", ["ridge:1"], 0),
    ]
    assert wanted(api, host) == [second]


def test_a_named_revision_is_run_again(api, w, host, first):
    running, port = first, 9000
    for version in (2, 1):
        port += 1
        operation = update(api, w, models=[f"ridge:{version}"]).json()["operation"]
        running = bring_up(api, host, operation, [ready(running, port - 1)], port)

    response = api.admin.post(f"{w}{PATH}/rollback", json={"revision": "r2"})

    assert response.json()["revisions"][0]["models"] == ["ridge:2"]


def test_a_service_that_is_deleted_during_an_update_goes_with_both_revisions(api, w, host, first):
    attempt = Attempt(api, update(api, w, models=["ridge:2"]).json()["operation"], node=host)
    [second] = attempt.place().json()["items"]
    observe(api, host, ready(first), ready(second["name"], 9001))

    deletion = api.admin.delete(w + PATH).json()["id"]
    attempt.end("cancelled")
    assert wanted(api, host) == []
    observe(api, host)
    Attempt(api, deletion, node=host).end()

    assert_problem(api.admin.get(w + PATH), "not-found")
    assert api.admin.delete(f"{w}/models/ridge/versions/1").status_code == 204


def test_old_revisions_are_forgotten_beyond_the_last_ones(api, w, host, first, monkeypatch):
    running, port = first, 9000
    for number in range(22):
        port += 1
        operation = update(api, w, models=[f"ridge:{1 + (number + 1) % 2}"]).json()["operation"]
        running = bring_up(api, host, operation, [ready(running, port - 1)], port)

    names = [revision["name"] for revision in show(api, w)["revisions"]]
    assert names[0] == "r23"
    assert len(names) == 22  # the one that serves, twenty before it, and the one that was serving while r23 came up
    assert "r1" not in names


def test_an_update_of_what_never_served_is_a_new_try(api, workspace, w, host):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    attempt.end("failed", error={"code": "x", "message": "y"})
    assert show(api, w)["state"] == "failed"

    operation = update(api, w, models=["ridge:1"]).json()["operation"]
    bring_up(api, host, operation, [])

    assert show(api, w)["state"] == "healthy"


def test_the_sample_of_a_model_is_what_warms_it_up_unless_several_have_one(api, workspace, w, host):
    register(api.admin, w, "one", {"m": unique_bytes()}, sample_input={"data": [[1, 2]]})
    register(api.admin, w, "two", {"m": unique_bytes()}, sample_input=[3])
    first = service(api, workspace, models=["ridge:latest", "one:1"])
    second = service(api, workspace, name="both", models=["one:1", "two:1"])

    claims = [Attempt(api, made["operation"], node=host).claim["spec"] for made in (first, second)]

    assert [claim["warm_up"] for claim in claims] == [[{"data": [[1, 2]]}], []]


def test_another_script_is_checked_as_that_of_a_new_service_is(api, w, first):
    source = snapshot(api.admin, w, {"other.py": b"def run(x): return x\n"})
    config = {**show(api, w)["inference_config"], "snapshot": source["digest"]}

    refused = assert_problem(api.admin.patch(w + PATH, json={"inference_config": config}), "invalid-request")
    assert "other.py" in str(refused)
    assert_problem(api.admin.patch(w + PATH, json={"models": ["none:1"]}), "not-found")
    assert_problem(api.admin.patch(f"{w}/services/no-such", json={"models": ["ridge:1"]}), "not-found")
    assert len(show(api, w)["revisions"]) == 1
