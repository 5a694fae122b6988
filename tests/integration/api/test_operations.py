"""Operations: claimed once at a time, renewed, reported, ended; Postgres decides every race."""

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import CLOCK_S, LEASE_S, wait_until
from tests.support.attempt import Attempt, claim, lapse
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import build, service


@pytest.fixture
def operation(api, workspace):
    """A queued operation."""
    return build(api, workspace)


def show(api, operation, **params):
    response = api.admin.get(f"/v1/operations/{operation}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def state_is(api, operation, state, wait_s=2 * LEASE_S + 10):
    return wait_until(
        lambda: (found := show(api, operation))["state"] == state and found, f"{operation} is {state}", wait_s
    )


def test_a_claim_raises_the_epoch_and_carries_the_spec(api, operation):
    response = claim(api, operation)

    claimed = response.json()
    assert claimed["epoch"] == 1
    assert claimed["lease_s"] == LEASE_S
    assert claimed["heartbeat_s"] < LEASE_S / 2
    assert claimed["operation"]["state"] == "running"
    assert claimed["operation"]["attempts"] == 1
    assert claimed["spec"]["environment"]["lock"] == "six==1.17.0"
    assert claimed["spec"]["environment"]["environment_variables"] == {"A": "b"}


def test_a_second_claim_is_refused(api, operation):
    Attempt(api, operation)

    assert_problem(claim(api, operation, owner="worker-2"), "operation-not-claimable")
    assert show(api, operation)["epoch"] == 1


def test_an_owner_whose_answer_was_lost_gets_the_same_claim_until_it_has_reported(api, operation):
    attempt = Attempt(api, operation)

    again = claim(api, operation)

    assert again.json()["epoch"] == attempt.epoch == 1
    assert again.json()["operation"]["attempts"] == 1
    attempt.report(step="working")
    assert_problem(claim(api, operation), "operation-not-claimable")


def test_a_claim_of_what_does_not_exist_is_refused(api):
    assert_problem(claim(api, str(uuid.uuid4())), "operation-not-claimable")


def test_of_fifty_claims_at_once_one_wins(api, operation):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: claim(api, operation, owner=f"w{n}").status_code, range(50)))

    assert sorted(answers) == [200] + [409] * 49
    assert show(api, operation)["attempts"] == 1


def test_a_heartbeat_renews_the_lease(api, operation):
    attempt = Attempt(api, operation)
    api.sql("UPDATE operations SET lease_until = now() + interval '1 second' WHERE id = %s", operation)

    answer = attempt.heartbeat().json()

    assert answer["state"] == "running"
    left = api.sql("SELECT extract(epoch FROM lease_until - now()) AS s FROM operations WHERE id = %s", operation)
    assert left[0]["s"] > 2


def test_reports_tell_steps_and_the_end(api, operation):
    attempt = Attempt(api, operation)

    attempt.report(step="resolving")
    attempt.report(step="resolving")
    attempt.report(step="building")
    ended = attempt.end(result={"image": "x"})

    assert [step["name"] for step in ended["steps"]] == ["resolving", "building"]
    assert all(step["ended_at"] for step in ended["steps"])
    assert (ended["state"], ended["result"], ended["error"]) == ("succeeded", {"image": "x"}, None)
    assert ended["ended_at"]


def test_a_failure_keeps_its_error(api, operation):
    error = {"code": "build-failed", "message": "no", "details": {"exit_code": 2}, "log_tail": ["a", "b"]}

    ended = Attempt(api, operation).end("failed", error=error)

    assert (ended["state"], ended["error"]) == ("failed", error)


def test_what_postgres_cannot_store_in_a_report_is_replaced_and_the_operation_ends(api, operation):
    error = {"code": "x", "message": "a\0b", "details": {"k\0": ["\0", {"n": "\ud800"}], "f": 1.5}, "log_tail": ["\0"]}
    attempt = Attempt(api, operation)
    body = json.dumps({"epoch": 1, "seq": 1, "state": "failed", "error": error, "log": "a\0b", "step": "s\0"})
    body = body.replace("1.5", "NaN")

    response = api.worker.post(
        f"/v1/operations/{attempt.id}/reports", content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 200, response.text
    assert show(api, operation)["state"] == "failed"
    assert "a" in show(api, operation)["error"]["message"]


def test_a_repeated_report_does_nothing(api, operation):
    attempt = Attempt(api, operation)
    attempt.report(log="once\n", step="one")

    again = attempt.report(seq=1, log="twice\n", step="two")

    assert again.status_code == 200
    assert api.admin.get(f"/v1/operations/{operation}/logs").text == "once\n"
    assert [step["name"] for step in show(api, operation)["steps"]] == ["one"]


def test_a_repeated_final_report_does_nothing(api, operation):
    attempt = Attempt(api, operation)
    attempt.end("succeeded")

    again = attempt.report(seq=1, state="failed")

    assert again.json()["state"] == "succeeded"


def test_reports_that_overtook_one_another_keep_the_later_one(api, operation):
    attempt = Attempt(api, operation)
    attempt.report(seq=5, step="five")

    assert attempt.report(seq=3, step="three").status_code == 200

    assert [step["name"] for step in show(api, operation)["steps"]] == ["five"]


@pytest.mark.parametrize("epoch", [0, 2, -1, 2**31 - 1])
def test_a_report_of_another_attempt_is_refused(api, operation, epoch):
    attempt = Attempt(api, operation)
    attempt.epoch = epoch

    assert_problem(attempt.report(state="succeeded"), "stale-attempt")
    assert_problem(attempt.heartbeat(), "stale-attempt")
    assert show(api, operation)["state"] == "running"


def test_a_late_report_of_an_old_attempt_is_refused(api, operation):
    first = Attempt(api, operation)
    lapse(api, operation)
    state_is(api, operation, "queued")
    second = Attempt(api, operation, owner="worker-2")

    assert_problem(first.report(state="succeeded"), "stale-attempt")
    assert_problem(first.heartbeat(), "stale-attempt")

    assert second.epoch == 2
    assert second.end()["state"] == "succeeded"


def test_nothing_is_reported_after_the_end(api, operation):
    attempt = Attempt(api, operation)
    attempt.end()

    assert_problem(attempt.report(state="failed"), "stale-attempt")
    assert_problem(attempt.heartbeat(), "stale-attempt")
    assert_problem(claim(api, operation), "operation-not-claimable")


@pytest.mark.parametrize("state", ["queued", "cancelling"])
def test_a_state_that_is_not_a_worker_s_to_say_is_refused(api, operation, state):
    response = Attempt(api, operation).report(state=state)

    assert paths_of(assert_problem(response, "invalid-request")) == ["body.state"]


@pytest.mark.parametrize("seq", [0, -1, 2**31, 10**30])
def test_a_number_of_a_report_out_of_range_is_refused(api, operation, seq):
    assert_problem(Attempt(api, operation).report(seq=seq), "invalid-request")


def test_a_lost_worker_s_operation_is_tried_again_until_there_were_enough(api, operation):
    for attempt in (1, 2, 3):
        assert Attempt(api, operation).epoch == attempt
        lapse(api, operation)
        state_is(api, operation, "queued" if attempt < 3 else "failed")

    error = show(api, operation)["error"]
    assert error["code"] == "worker-lost"
    assert error["details"] == {"owner": "worker-1"}


def test_a_queued_operation_is_cancelled_at_once(api, operation):
    response = api.admin.post(f"/v1/operations/{operation}/cancel")

    assert (response.status_code, response.json()["state"]) == (202, "cancelled")
    assert_problem(claim(api, operation), "operation-not-claimable")


def test_a_worker_is_told_of_a_cancellation_and_ends_it(api, operation):
    attempt = Attempt(api, operation)

    assert api.admin.post(f"/v1/operations/{operation}/cancel").json()["state"] == "cancelling"

    assert attempt.heartbeat().json()["state"] == "cancelling"
    assert attempt.report(step="stopping").json()["state"] == "cancelling"
    assert attempt.end("cancelled")["state"] == "cancelled"


def test_a_cancelled_operation_whose_worker_is_lost_ends_as_cancelled(api, operation):
    Attempt(api, operation)
    api.admin.post(f"/v1/operations/{operation}/cancel")
    lapse(api, operation)

    state_is(api, operation, "cancelled")


def test_what_has_ended_cannot_be_cancelled(api, operation):
    Attempt(api, operation).end()

    assert assert_problem(api.admin.post(f"/v1/operations/{operation}/cancel"), "wrong-state")["state"] == "succeeded"


def test_a_cancellation_that_meets_the_end_does_not_undo_it(api, operation):
    Attempt(api, operation)
    with api.stack.postgres.connect() as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("BEGIN")
        connection.execute("UPDATE operations SET state = 'succeeded', ended_at = now() WHERE id = %s", [operation])
        cancelled = pool.submit(api.admin.post, f"/v1/operations/{operation}/cancel")
        _wait_for_a_lock(api)
        connection.execute("COMMIT")

        assert_problem(cancelled.result(), "wrong-state")
    assert show(api, operation)["state"] == "succeeded"


def test_one_who_may_only_read_cannot_cancel(api, workspace, operation):
    response = api.as_role("reader", workspace).post(f"/v1/operations/{operation}/cancel")

    assert_problem(response, "forbidden")


def test_an_operation_past_its_deadline_fails(api, workspace):
    waiting, running = build(api, workspace), build(api, workspace)
    attempt = Attempt(api, running)
    for operation in (waiting, running):
        api.sql("UPDATE operations SET deadline_at = now() - interval '1 second' WHERE id = %s", operation)

    for operation in (waiting, running):
        assert state_is(api, operation, "failed")["error"]["code"] == "deadline-passed"
    assert_problem(attempt.heartbeat(), "stale-attempt")


def test_what_is_past_its_deadline_cannot_be_claimed(api, workspace):
    operation = build(api, workspace)
    api.sql("UPDATE operations SET deadline_at = now() - interval '1 second' WHERE id = %s", operation)

    assert_problem(claim(api, operation), "operation-not-claimable")


def test_another_tenant_s_operation_is_not_found(api, operation):
    stranger = api.as_role("admin", api.workspace())

    for method, path in (("GET", ""), ("GET", "/logs"), ("POST", "/cancel")):
        problem = assert_problem(stranger.request(method, f"/v1/operations/{operation}{path}"), "not-found")
        assert problem["name"] == operation


def test_the_list_shows_only_the_caller_s_operations_and_hides_that_others_exist(api, workspace, operation):
    other = api.workspace()
    stranger = api.as_role("admin", other)

    assert stranger.get("/v1/operations").json()["items"] == []
    foreign = stranger.get("/v1/operations", params={"workspace": workspace})
    unknown = stranger.get("/v1/operations", params={"workspace": "no-such-workspace"})
    assert_problem(foreign, "not-found")
    assert_problem(unknown, "not-found")
    assert api.worker.get("/v1/operations").json()["items"] == []


def test_the_list_is_filtered_by_state_and_subject(api, workspace):
    first, second = build(api, workspace), build(api, workspace)
    Attempt(api, first)
    service(api, workspace)
    path = "/v1/operations"

    def ids(**params):
        items = api.admin.get(path, params={"workspace": workspace, **params}).json()["items"]
        return [item["id"] for item in items]

    assert ids(state="running") == [first]
    assert len(ids(state=["running", "queued"])) == 4  # one inspects the service's model
    assert ids(subject="environments/env/versions/1") == [second, first]
    assert [item["kind"] for item in api.admin.get(path, params={"subject": "services/ridge-svc"}).json()["items"]]
    assert_problem(api.admin.get(path, params={"state": "bogus"}), "invalid-request")


def test_who_waits_is_woken_by_a_change(api, operation):
    attempt = Attempt(api, operation)
    answer = {}

    def wait():
        answer["seen"] = show(api, operation, wait_s=20)
        answer["at"] = time.monotonic()

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.5)  # the waiter must be waiting: nothing shows that from outside
    attempt.report(step="built")
    reported = time.monotonic()
    waiter.join(30)

    assert [step["name"] for step in answer["seen"]["steps"]] == ["built"]
    assert answer["at"] - reported < 1.5  # not the 2 s after which everybody looks again anyway


def test_who_waits_in_vain_gets_what_there_is(api, operation):
    started = time.monotonic()

    found = show(api, operation, wait_s=0.5)

    assert found["state"] == "queued"
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize("wait_s", ["-1", "61", "x", "nan", "inf"])
def test_a_wait_out_of_range_is_refused(api, operation, wait_s):
    assert_problem(api.admin.get(f"/v1/operations/{operation}", params={"wait_s": wait_s}), "invalid-request")


def test_an_operation_whose_doorbell_was_lost_is_rung_again(api, operation):
    api.sql("DELETE FROM outbox WHERE message = %s", operation)
    api.sql("UPDATE operations SET rung_at = now() - interval '1 hour' WHERE id = %s", operation)

    wait_until(
        lambda: api.sql("SELECT 1 FROM operations WHERE id = %s AND rung_at > now() - interval '1 minute'", operation),
        "it is rung again",
    )


@pytest.mark.parametrize(("rings", "pause_s"), [(1, 10), (2, 20), (5, 160), (6, 300), (2000, 300)])
def test_an_operation_that_nobody_takes_is_rung_ever_more_seldom(api, operation, rings, pause_s):
    def rung(ago_s):
        api.sql(
            "UPDATE operations SET rings = %s, rung_at = now() - make_interval(secs => %s) WHERE id = %s",
            *(rings, ago_s, operation),
        )

    def has_been_rung():
        return api.sql("SELECT rings FROM operations WHERE id = %s", operation)[0]["rings"] > rings

    rung(pause_s / 4)
    time.sleep(3 * CLOCK_S)
    assert not has_been_rung()
    rung(pause_s + 1)
    wait_until(has_been_rung, "it is rung again")


def test_a_task_of_the_clock_that_waits_for_a_lock_holds_up_no_other(api, operation):
    Attempt(api, operation)
    with api.connection() as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE")
        lapse(api, operation)
        queued = "SELECT 1 FROM operations WHERE id = %s AND state = 'queued'"
        wait_until(lambda: api.sql(queued, operation), "the lapsed lease is seen", 15)
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("call", ["place", "activate"])
def test_a_build_has_no_replicas(api, operation, call):
    attempt = Attempt(api, operation)

    assert_problem(getattr(attempt, call)(), "wrong-state")
    assert_problem(api.worker.get(f"/v1/operations/{operation}/replicas"), "wrong-state")


def _wait_for_a_lock(api):
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'keelway'"
    wait_until(lambda: api.sql(waiting), "a request waits for the lock")


def test_a_lock_that_is_held_too_long_is_an_outage_and_no_mistake(api, operation):
    attempt = Attempt(api, operation)
    api.sql("UPDATE operations SET lease_until = now() + interval '1 minute' WHERE id = %s", operation)
    with api.stack.postgres.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM operations WHERE id = %s FOR UPDATE", [operation])

        response = attempt.report(step="x")

        connection.execute("ROLLBACK")
    assert_problem(response, "dependency-away")
    assert response.headers["retry-after"]
    assert attempt.report(seq=1, step="x").status_code == 200
