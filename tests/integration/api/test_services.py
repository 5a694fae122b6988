"""Services, played through by a worker and a node that are this test."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import wait_until
from tests.support.attempt import Attempt, claim, observe, ready
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import (
    build,
    environment,
    manifest,
    node,
    open_version,
    register,
    service,
    service_body,
    snapshot,
    unique_bytes,
)


@pytest.fixture
def host(api):
    """A node of this test's own."""
    return node(api)


@pytest.fixture
def deployed(api, workspace, host):
    """A healthy service with one replica: (attempt, name of the replica)."""
    return deploy(api, workspace, host)


def deploy(api, workspace, host, **more):
    made = service(api, workspace, **more)
    attempt = Attempt(api, made["operation"], node=host)
    [replica] = attempt.place().json()["items"]
    observe(api, host, ready(replica["name"]))
    assert attempt.activate().status_code == 204
    attempt.end()
    return attempt, replica["name"]


def show(api, w, name="ridge-svc"):
    response = api.admin.get(f"{w}/services/{name}")
    assert response.status_code == 200, response.text
    return response.json()


def routes_of(api, workspace):
    """The addresses that the gateway sends a workspace's requests to, by service."""
    http = api.gateway.get("/v1/gateway/routes").json()["http"]
    found = {}
    for router in http.get("routers", {}).values():
        if f"/{workspace}/" in router["rule"]:
            servers = http["services"][router["service"]]["loadBalancer"]["servers"]
            found[router["rule"].split("/")[2]] = [server["url"] for server in servers]
    return found


def test_a_new_service_waits_for_a_worker(api, workspace):
    made = service(api, workspace, tags={"a": "b"})

    assert (made["state"], made["reason"]) == ("transitioning", "waiting for a worker")
    assert made["revisions"][0]["models"] == ["ridge:1"]
    assert made["revisions"][0]["traffic"] == 0
    assert made["scoring_uri"].endswith(f"/{workspace}/ridge-svc/score")
    assert (made["generation"], made["observed_generation"], made["tags"]) == (1, 0, {"a": "b"})


def test_creation_names_the_operation_to_follow(api, workspace, w):
    response = api.admin.post(f"{w}/services", json=service_body(api, workspace))

    assert response.headers["location"] == f"/v1/operations/{response.json()['operation']}"
    operation = api.admin.get(response.headers["location"]).json()
    assert (operation["kind"], operation["subject"]) == ("deploy", "services/ridge-svc")


@pytest.mark.parametrize("name", ["ab", "a" * 33, "Abc", "1bc", "-bc", "ab-", "a_b", "a.b", "a b", "", "abc\n", "äbc"])
def test_a_bad_name_is_refused(api, workspace, w, name):
    response = api.admin.post(f"{w}/services", json=service_body(api, workspace, name=name))

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.name"]


@pytest.mark.parametrize("name", ["abc", "a" * 32, "a-b", "a1-2"])
def test_a_good_name_is_accepted(api, workspace, name):
    assert service(api, workspace, name=name)["name"] == name


def test_a_name_is_taken_once(api, workspace, w):
    service(api, workspace)

    problem = assert_problem(api.admin.post(f"{w}/services", json=service_body(api, workspace)), "already-exists")

    assert problem["name"] == "ridge-svc"


def test_of_many_creations_at_once_one_wins(api, workspace, w):
    body = service_body(api, workspace)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.admin.post(f"{w}/services", json=body).status_code, range(8)))

    assert sorted(answers) == [202] + [409] * 7


@pytest.mark.parametrize("model", ["ridge:99", "none:1", "none:latest", "ridge:99999999999"])
def test_a_model_that_is_not_there_is_not_found(api, workspace, w, model):
    response = api.admin.post(f"{w}/services", json=service_body(api, workspace, models=[model]))

    assert assert_problem(response, "not-found")["kind"] == "model version"


@pytest.mark.parametrize("model", ["ridge", "ridge:", ":1", "ridge:x", "ridge:1:2", "../ridge:1", ""])
def test_what_names_no_model_is_refused(api, workspace, w, model):
    response = api.admin.post(f"{w}/services", json=service_body(api, workspace, models=[model]))

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.models[0]"]


def test_a_model_that_is_still_uploading_is_in_the_wrong_state(api, workspace, w):
    body = service_body(api, workspace, models=["open:1"])
    open_version(api.admin, w, "open", {"m.pkl": unique_bytes()})

    assert_problem(api.admin.post(f"{w}/services", json=body), "wrong-state")


def test_another_tenant_s_model_snapshot_and_environment_are_not_found(api, workspace, w):
    other = api.workspace()
    register(api.admin, f"/v1/workspaces/{other}", "theirs", {"m.pkl": b"x"})
    environment(api, other, "their-env")
    their_snapshot = snapshot(api.admin, f"/v1/workspaces/{other}", {"score.py": unique_bytes()})["digest"]
    ours = service_body(api, workspace)
    inference = ours["inference_config"]

    for body in (
        {**ours, "models": ["theirs:1"]},
        {**ours, "inference_config": {**inference, "snapshot": their_snapshot}},
        {**ours, "inference_config": {**inference, "environment": "their-env:1"}},
    ):
        assert_problem(api.admin.post(f"{w}/services", json=body), "not-found")


def test_an_entry_script_must_lie_in_the_snapshot(api, workspace, w):
    body = service_body(api, workspace)
    made = snapshot(api.admin, w, {"src/score.py": b"x", "other.py": b"y", "data.csv": b"z"})
    for script in ("score.py", "src/../score.py", "/src/score.py", "../other.py", "SRC/score.py"):
        body["inference_config"] |= {"snapshot": made["digest"], "entry_script": script}

        problem = assert_problem(api.admin.post(f"{w}/services", json=body), "invalid-request")

        assert paths_of(problem) == ["body.inference_config.entry_script"]
        assert "other.py, src/score.py" in problem["detail"]
    body["inference_config"]["entry_script"] = "src/score.py"
    assert api.admin.post(f"{w}/services", json=body).status_code == 202


def test_a_snapshot_must_be_committed(api, workspace, w):
    body = service_body(api, workspace)
    digest = api.admin.post(f"{w}/snapshots", json={"files": manifest({"score.py": unique_bytes()})}).json()["digest"]
    body["inference_config"]["snapshot"] = digest

    assert_problem(api.admin.post(f"{w}/services", json=body), "wrong-state")


def test_a_refused_creation_leaves_nothing(api, workspace, w):
    api.admin.post(f"{w}/services", json=service_body(api, workspace, models=["none:1"]))

    assert api.admin.get(f"{w}/services").json()["items"] == []
    operations = api.admin.get("/v1/operations", params={"workspace": workspace}).json()["items"]
    assert {operation["kind"] for operation in operations} == {"inspect"}


def test_a_claim_carries_all_that_a_worker_needs(api, workspace):
    made = service(api, workspace)

    spec = claim(api, made["operation"]).json()["spec"]

    replica = spec["replica"]
    assert (replica["workspace"], replica["service"], replica["revision"]) == (workspace, "ridge-svc", "r1")
    assert replica["models"][0]["files"][0]["path"] == "model.pkl"
    assert replica["snapshot_files"][0]["path"] == "score.py"
    assert replica["environment"]["lock"] == "six==1.17.0"
    assert spec["scoring_uri"] == made["scoring_uri"]


def test_a_deployment_goes_from_waiting_to_healthy(api, workspace, w, host):
    made = service(api, workspace)
    attempt = Attempt(api, made["operation"], node=host)
    attempt.report(step="building the environment")
    assert (show(api, w)["state"], show(api, w)["reason"]) == ("transitioning", "building the environment")

    [replica] = attempt.place().json()["items"]
    assert (replica["state"], replica["node"]) == ("pending", host)
    assert show(api, w)["state"] == "transitioning"
    assert routes_of(api, workspace) == {}

    observe(api, host, ready(replica["name"]))
    assert show(api, w)["state"] == "transitioning"
    attempt.activate()
    attempt.end()

    healthy = show(api, w)
    assert (healthy["state"], healthy["reason"], healthy["observed_generation"]) == ("healthy", "", 1)
    assert healthy["revisions"][0]["traffic"] == 100
    assert healthy["revisions"][0]["image"] == "env-1"
    assert routes_of(api, workspace) == {"ridge-svc": ["http://127.0.0.1:9000"]}


def test_placing_twice_changes_nothing(api, workspace, host):
    body = {"compute_type": "process", "num_replicas": 3}
    attempt = Attempt(api, service(api, workspace, deployment_config=body)["operation"], node=host)

    first, again = attempt.place().json(), attempt.place().json()

    assert len(first["items"]) == 3
    assert first == again
    desired = api.worker.get(f"/v1/nodes/{host}/desired").json()
    assert {spec["name"] for spec in desired["replicas"]} == {item["name"] for item in first["items"]}


def test_placing_on_another_node_moves_the_replicas(api, workspace, host):
    other = node(api)
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    attempt.place()

    [moved] = attempt.place(node=other).json()["items"]

    assert moved["node"] == other
    assert api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"] == []


def test_placing_on_an_unknown_node_is_not_found(api, workspace):
    attempt = Attempt(api, service(api, workspace)["operation"])

    assert assert_problem(attempt.place(node="no-such-node"), "not-found")["kind"] == "node"


def test_an_old_attempt_can_neither_place_nor_activate(api, workspace, w, host):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    attempt.epoch = 0

    assert_problem(attempt.place(), "stale-attempt")
    assert_problem(attempt.activate(), "stale-attempt")
    assert show(api, w)["replicas"] == []


def test_who_waits_for_replicas_is_woken_by_what_a_node_sees(api, workspace, host):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    placed = attempt.place().json()
    with ThreadPoolExecutor(1) as pool:
        params = {"seen": placed["seen"], "wait_s": 20}
        waiting = pool.submit(api.worker.get, f"/v1/operations/{attempt.id}/replicas", params=params)
        observe(api, host, {"name": placed["items"][0]["name"], "state": "starting"})

        assert waiting.result().json()["items"][0]["state"] == "starting"


def test_a_failed_deployment_leaves_its_reason_and_nothing_running(api, workspace, w, host):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    [replica] = attempt.place().json()["items"]
    observe(api, host, ready(replica["name"]))
    attempt.activate()
    assert routes_of(api, workspace)

    attempt.end("failed", error={"code": "script-failed", "message": "init() raised ValueError"})

    failed = show(api, w)
    assert (failed["state"], failed["reason"]) == ("failed", "init() raised ValueError")
    assert api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"] == []
    assert routes_of(api, workspace) == {}
    observe(api, host)
    assert show(api, w)["replicas"] == []


def test_a_cancelled_deployment_says_so(api, workspace, w):
    made = service(api, workspace)

    api.admin.post(f"/v1/operations/{made['operation']}/cancel")

    assert (show(api, w)["state"], show(api, w)["reason"]) == ("failed", "the deployment was cancelled")


@pytest.mark.parametrize("call", ["place", "activate"])
def test_a_deployment_that_is_being_cancelled_gets_no_further(api, workspace, w, host, call):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    api.admin.post(f"/v1/operations/{attempt.id}/cancel")

    assert_problem(getattr(attempt, call)(), "wrong-state")

    assert show(api, w)["replicas"] == []
    assert attempt.end("cancelled")["state"] == "cancelled"


def test_a_replica_that_crashes_makes_the_service_unhealthy_until_it_is_back(api, w, host, deployed):
    _, replica = deployed
    observe(api, host, {"name": replica, "state": "crashed", "reason": "killed by SIGKILL", "restarts": 1})
    assert (show(api, w)["state"], show(api, w)["reason"]) == ("unhealthy", "killed by SIGKILL")

    observe(api, host, {**ready(replica), "restarts": 1})

    assert show(api, w)["state"] == "healthy"
    assert show(api, w)["replicas"][0]["restarts"] == 1


def test_a_replica_that_its_node_does_not_list_is_still_wanted(api, w, host, deployed):
    observe(api, host)

    assert [replica["name"] for replica in show(api, w)["replicas"]] == [deployed[1]]


def test_a_service_of_a_silent_node_is_unhealthy_until_it_is_heard_of(api, w, host, deployed):
    api.sql("UPDATE nodes SET heartbeat_at = now() - interval '1 hour' WHERE name = %s", host)
    wait_until(lambda: show(api, w)["state"] == "unhealthy", "the silence is seen")
    assert host in show(api, w)["reason"]
    assert next(n for n in api.admin.get("/v1/nodes").json()["items"] if n["name"] == host)["state"] == "away"

    observe(api, host, ready(deployed[1]))

    wait_until(lambda: show(api, w)["state"] == "healthy", "the node is heard of")


def test_a_replica_with_the_name_of_another_node_s_is_ignored(api, w, deployed):
    stranger = node(api)

    observe(api, stranger, {"name": deployed[1], "state": "failed"}, {"name": "no-such-replica", "state": "ready"})

    assert show(api, w)["state"] == "healthy"


def test_whatever_a_script_printed_does_not_stop_the_heartbeat(api, w, host, deployed):
    seen = {"name": deployed[1], "state": "crashed", "reason": "a\0b", "log_tail": ["x\0y"]}

    assert observe(api, host, seen).status_code == 204

    assert show(api, w)["replicas"][0]["log_tail"] == ["x\ufffdy"]


def test_a_heartbeat_and_a_deployment_do_not_lock_each_other_out(api, workspace, w, host, deployed):
    service_id = api.sql("SELECT service_id FROM replicas WHERE name = %s", deployed[1])[0]["service_id"]
    with api.stack.postgres.connect() as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM services WHERE id = %s FOR UPDATE", [service_id])  # as a deployment does
        observed = pool.submit(observe, api, host, {"name": deployed[1], "state": "crashed"})
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'keelway'"
        wait_until(lambda: api.sql(waiting), "the heartbeat waits for the service")

        connection.execute("SET lock_timeout = '3s'")
        connection.execute("UPDATE nodes SET generation = generation + 1 WHERE name = %s", [host])  # as it does next
        connection.execute("COMMIT")

        assert observed.result().status_code == 204


def test_a_service_that_is_deleted_leaves_the_gateway_first_and_its_name_last(api, workspace, w, host, deployed):
    response = api.admin.delete(f"{w}/services/ridge-svc")

    operation = response.json()
    assert (response.status_code, operation["kind"]) == (202, "delete")
    assert response.headers["location"] == f"/v1/operations/{operation['id']}"
    assert show(api, w)["state"] == "deleting"
    assert routes_of(api, workspace) == {}
    assert api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"] == []

    attempt = Attempt(api, operation["id"])
    assert attempt.claim["spec"]["replicas"] == [deployed[1]]
    replicas = f"/v1/operations/{operation['id']}/replicas"
    assert len(api.worker.get(replicas).json()["items"]) == 1
    observe(api, host)
    assert api.worker.get(replicas).json()["items"] == []
    attempt.end()

    assert_problem(api.admin.get(f"{w}/services/ridge-svc"), "not-found")
    assert api.admin.get(f"{w}/models/ridge/versions/1").json()["used_by"] == []
    assert service(api, workspace)["state"] == "transitioning"


def test_an_old_observation_does_not_make_a_stopping_replica_vanish(api, w, host, deployed):
    before = api.worker.get(f"/v1/nodes/{host}/desired").json()["generation"]
    api.admin.delete(f"{w}/services/ridge-svc")

    observe(api, host, generation=before)

    assert len(show(api, w)["replicas"]) == 1


@pytest.fixture
def failed_deletion(api, w, deployed):
    """A service whose deletion has failed while its replica still runs."""
    operation = api.admin.delete(f"{w}/services/ridge-svc").json()
    Attempt(api, operation["id"]).end("failed", error={"code": "stuck", "message": "a replica does not end"})
    return operation["id"]


def test_a_deletion_that_failed_says_why_and_can_be_asked_for_again(api, w, failed_deletion):
    found = show(api, w)
    again = api.admin.delete(f"{w}/services/ridge-svc").json()

    assert found["state"] == "deleting"
    assert found["reason"] == "its deletion failed: a replica does not end; delete it again"
    assert again["id"] != failed_deletion
    assert show(api, w)["reason"] == "stopping its replicas"


def test_a_service_whose_deletion_failed_goes_with_its_last_replica(api, w, host, failed_deletion):
    observe(api, host)

    assert_problem(api.admin.get(f"{w}/services/ridge-svc"), "not-found")
    assert api.admin.get(f"{w}/models/ridge/versions/1").json()["used_by"] == []


def test_a_deletion_that_fails_when_nothing_runs_any_more_removes_the_service(api, w, host, deployed):
    operation = api.admin.delete(f"{w}/services/ridge-svc").json()
    observe(api, host)

    Attempt(api, operation["id"]).end("failed", error={"code": "lost", "message": "its worker went away"})

    assert_problem(api.admin.get(f"{w}/services/ridge-svc"), "not-found")


def test_a_deletion_is_not_cancelled(api, w, deployed):
    operation = api.admin.delete(f"{w}/services/ridge-svc").json()

    problem = assert_problem(api.admin.post(f"/v1/operations/{operation['id']}/cancel"), "wrong-state")

    assert "cannot be cancelled" in problem["detail"] or "can be cancelled" in problem["detail"]
    assert api.admin.get(f"/v1/operations/{operation['id']}").json()["state"] == "queued"


@pytest.mark.parametrize(("kind", "lowest"), [("build", "contributor"), ("deploy", "deployer")])
def test_who_may_start_an_operation_may_cancel_it(api, workspace, w, kind, lowest):
    made = service(api, workspace)["operation"] if kind == "deploy" else build(api, workspace)
    ladder = ["reader", "contributor", "deployer"]

    for role in ladder[: ladder.index(lowest)]:
        answer = api.as_role(role, workspace).post(f"/v1/operations/{made}/cancel")
        assert assert_problem(answer, "forbidden")["detail"] == f"This needs the role {lowest}."
    assert api.as_role(lowest, workspace).post(f"/v1/operations/{made}/cancel").status_code == 202


def test_deleting_twice_is_one_deletion(api, w, deployed):
    first = api.admin.delete(f"{w}/services/ridge-svc").json()
    again = api.admin.delete(f"{w}/services/ridge-svc").json()

    assert first["id"] == again["id"]


def test_many_deletions_at_once_are_one(api, w, deployed):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: api.admin.delete(f"{w}/services/ridge-svc"), range(6)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_deletion_cancels_the_deployment_that_is_under_way(api, workspace, w, host):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    attempt.place()

    deletion = api.admin.delete(f"{w}/services/ridge-svc").json()

    assert attempt.heartbeat().json()["state"] == "cancelling"
    assert_problem(attempt.place(), "wrong-state")
    assert_problem(attempt.activate(), "wrong-state")
    attempt.end("succeeded")  # too late to stop: it must leave nothing behind all the same
    assert api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"] == []
    observe(api, host)
    Attempt(api, deletion["id"]).end()
    assert_problem(api.admin.get(f"{w}/services/ridge-svc"), "not-found")


def test_a_deletion_and_a_report_do_not_lock_each_other_out(api, workspace, w, host):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    service_id = api.sql("SELECT spec->>'service_id' AS id FROM operations WHERE id = %s", attempt.id)[0]["id"]
    with api.stack.postgres.connect() as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM operations WHERE id = %s FOR UPDATE", [attempt.id])  # as a report does
        deleted = pool.submit(api.admin.delete, f"{w}/services/ridge-svc")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'keelway'"
        wait_until(lambda: api.sql(waiting), "the deletion waits for the operation")

        connection.execute("SET lock_timeout = '3s'")
        connection.execute("SELECT 1 FROM services WHERE id = %s FOR UPDATE", [service_id])  # as it does next
        connection.execute("COMMIT")

        assert deleted.result().status_code == 202


@pytest.mark.parametrize("etag", ['"0"', 'W/"1"', "1", '"0", "x"', ""])
def test_a_service_that_is_not_what_the_caller_saw_is_not_deleted(api, w, workspace, etag):
    made = service(api, workspace)

    response = api.admin.delete(f"{w}/services/ridge-svc", headers={"If-Match": etag})

    assert assert_problem(response, "precondition-failed")["etag"] == made["etag"]
    assert show(api, w)["state"] == "transitioning"


@pytest.mark.parametrize("etag", ["{}", "*", '"0", {}'])
def test_a_service_that_is_what_the_caller_saw_is_deleted(api, w, workspace, etag):
    headers = {"If-Match": etag.format(service(api, workspace)["etag"])}

    response = api.admin.delete(f"{w}/services/ridge-svc", headers=headers)
    again = api.admin.delete(f"{w}/services/ridge-svc", headers=headers)

    assert response.status_code == 202
    assert again.json()["id"] == response.json()["id"], "a lost answer must not make the same request fail"


def test_a_failed_service_can_be_deleted(api, workspace, w):
    made = service(api, workspace)
    Attempt(api, made["operation"]).end("failed", error={"code": "x", "message": "no"})

    deletion = api.admin.delete(f"{w}/services/ridge-svc").json()

    Attempt(api, deletion["id"]).end()
    assert_problem(api.admin.get(f"{w}/services/ridge-svc"), "not-found")


def test_a_model_names_the_services_that_use_it(api, workspace, w):
    service(api, workspace)

    assert api.admin.get(f"{w}/models/ridge/versions/1").json()["used_by"] == ["services/ridge-svc"]


def test_revisions_are_listed(api, workspace, w):
    made = service(api, workspace)

    assert api.admin.get(f"{w}/services/ridge-svc/revisions").json()["items"] == made["revisions"]
