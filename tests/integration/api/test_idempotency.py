"""Idempotency-Key: one request, one effect, one answer, whatever happens in between."""

import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import wait_until
from tests.support.problems import assert_problem
from tests.support.registry import build, manifest, service_body

BODY = {"files": manifest({"m.pkl": b"x"})}


@pytest.fixture
def path(w):
    """Where versions of a model are made."""
    return f"{w}/models/ridge/versions"


def key():
    return {"Idempotency-Key": uuid.uuid4().hex}


def count(api, path):
    response = api.admin.get(path)
    return len(response.json()["items"]) if response.status_code == 200 else 0


def test_the_same_request_has_one_effect_and_one_answer(api, path):
    headers = key()

    first = api.admin.post(path, json=BODY, headers=headers)
    again = api.admin.post(path, json=BODY, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert count(api, path) == 1


def test_without_a_key_each_request_has_its_effect(api, path):
    for _ in range(2):
        api.admin.post(path, json=BODY)

    assert count(api, path) == 2


def test_a_replay_keeps_the_headers(api, workspace, w):
    headers, body = key(), service_body(api, workspace)

    first = api.admin.post(f"{w}/services", json=body, headers=headers)
    again = api.admin.post(f"{w}/services", json=body, headers=headers)

    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()


def test_a_key_belongs_to_one_request(api, path, w):
    headers = key()
    api.admin.post(path, json=BODY, headers=headers)

    other_body = api.admin.post(path, json={**BODY, "description": "other"}, headers=headers)
    other_path = api.admin.post(f"{w}/models/other/versions", json=BODY, headers=headers)

    for response in (other_body, other_path):
        assert_problem(response, "idempotency-mismatch")
    assert count(api, path) == 1


def test_a_key_belongs_to_one_principal(api, workspace, path):
    headers = key()
    for http in (api.admin, api.as_role("contributor", workspace)):
        assert "idempotency-replayed" not in http.post(path, json=BODY, headers=headers).headers

    assert count(api, path) == 2


def test_a_request_that_failed_does_not_use_up_its_key(api, w):
    headers = key()
    name = f"w-{uuid.uuid4().hex[:8]}"
    api.admin.post("/v1/workspaces", json={"name": name})

    taken = api.admin.post("/v1/workspaces", json={"name": name}, headers=headers)
    malformed = api.admin.post("/v1/workspaces", json={"name": "NO"}, headers=headers)
    good = api.admin.post("/v1/workspaces", json={"name": name + "-2"}, headers=headers)

    assert_problem(taken, "already-exists")
    assert_problem(malformed, "invalid-request")
    assert good.status_code == 201


@pytest.mark.parametrize("bad", ["", "k" * 256])
def test_a_key_of_a_bad_length_is_refused(api, path, bad):
    assert_problem(api.admin.post(path, json=BODY, headers={"Idempotency-Key": bad}), "invalid-request")


def test_of_many_at_once_one_has_the_effect_and_all_get_its_answer(api, path):
    headers = key()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.admin.post(path, json=BODY, headers=headers), range(8)))

    made = [answer for answer in answers if answer.status_code == 201]
    late = [answer for answer in answers if answer.status_code != 201]
    assert len({answer.text for answer in made}) == 1
    assert len([answer for answer in made if "idempotency-replayed" not in answer.headers]) == 1
    for answer in late:
        assert_problem(answer, "idempotency-in-flight")
    assert count(api, path) == 1


def test_who_comes_while_the_first_still_runs_is_sent_away(api, path):
    headers = key()
    token = api.token("admin").split("_")[1]
    with api.stack.postgres.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO idempotency_keys (token_id, key, request_sha256) VALUES (%s, %s, %s)",
            [token, headers["Idempotency-Key"], b"x"],
        )

        response = api.admin.post(path, json=BODY, headers=headers)

        connection.execute("ROLLBACK")
    assert_problem(response, "idempotency-in-flight")
    assert response.headers["retry-after"] == "1"
    assert api.admin.post(path, json=BODY, headers=headers).status_code == 201


def test_old_keys_are_forgotten(api, path):
    headers = key()
    api.admin.post(path, json=BODY, headers=headers)
    name = headers["Idempotency-Key"]

    api.sql("UPDATE idempotency_keys SET created_at = now() - interval '49 hours' WHERE key = %s", name)

    wait_until(lambda: not api.sql("SELECT 1 FROM idempotency_keys WHERE key = %s", name), "the key is gone")


@pytest.fixture
def slow_commit(api):
    """Every transaction that writes an audit entry takes a second to commit."""
    api.sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'")
    api.sql(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    yield
    api.sql("DROP TRIGGER slow ON audit")
    api.sql("DROP FUNCTION slow")


def test_the_commit_comes_before_the_answer(api, path, slow_commit):
    started = time.monotonic()
    with api.admin.stream("POST", path, json=BODY) as response:
        # The answer has begun: whatever it promises must be there for others now.
        assert response.status_code == 201
        assert count(api, path) == 1
    assert time.monotonic() - started >= 1


def test_a_commit_that_fails_is_never_answered_as_done(api, path):
    api.sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'")
    api.sql(
        "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION no()"
    )
    headers = key()
    try:
        failed = api.admin.post(path, json=BODY, headers=headers)
    finally:
        api.sql("DROP TRIGGER no ON audit")
        api.sql("DROP FUNCTION no")

    assert failed.status_code == 500
    assert count(api, path) == 0
    assert api.admin.post(path, json=BODY, headers=headers).status_code == 201


def test_a_retry_after_the_api_died_between_commit_and_answer_gets_the_same_resource(api, workspace, path):
    headers = key()
    with socket.create_connection(("127.0.0.1", api.port)) as unread:  # nobody reads what is answered here
        unread.sendall(_request(api, path, headers))
        wait_until(lambda: _numbers(api, workspace) == [1], "the effect is committed")
        api.kill_api()
    api.start_api()

    again = api.admin.post(path, content=_body(), headers={**headers, "Content-Type": "application/json"})

    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["version"] == 1
    assert _numbers(api, workspace) == [1]


def test_an_api_that_died_before_the_commit_left_nothing_of_the_request(api, workspace, path, slow_commit):
    headers = key()
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        connection.sendall(_request(api, path, headers))
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        wait_until(lambda: api.sql(sleeping), "the commit is under way")
        api.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        api.kill_api()
    api.start_api()
    assert _numbers(api, workspace) == []

    again = api.admin.post(path, content=_body(), headers={**headers, "Content-Type": "application/json"})

    assert again.status_code == 201
    assert "idempotency-replayed" not in again.headers
    assert _numbers(api, workspace) == [1]


def test_a_connection_that_is_cut_during_the_commit_is_an_outage_and_the_retry_has_one_effect(
    api, workspace, path, slow_commit
):
    headers = key()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.admin.post, path, json=BODY, headers=headers)
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        wait_until(lambda: api.sql(sleeping), "the commit is under way")
        api.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")

        assert_problem(first.result(), "dependency-away")
    assert api.admin.post(path, json=BODY, headers=headers).status_code == 201
    assert _numbers(api, workspace) == [1]


def test_a_build_is_asked_for_once(api, workspace, w):
    build(api, workspace)
    headers = key()

    first = api.admin.post(f"{w}/environments/env/versions/1/build", headers=headers).json()
    again = api.admin.post(f"{w}/environments/env/versions/1/build", headers=headers).json()

    assert first["id"] == again["id"]


def _body():
    return json.dumps(BODY).encode()


def _request(api, path, headers):
    body = _body()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {api.token('admin')}",
        f"Idempotency-Key: {headers['Idempotency-Key']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _numbers(api, workspace):
    rows = api.sql(
        "SELECT v.version FROM model_versions v JOIN models m ON v.model_id = m.id "
        "JOIN workspaces w ON m.workspace_id = w.id WHERE w.name = %s ORDER BY 1",
        workspace,
    )
    return [row["version"] for row in rows]
