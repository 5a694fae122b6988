"""Health: what is said while a dependency is away, and that nothing has to be restarted."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.api import wait_until
from tests.support.problems import assert_problem
from tests.support.registry import build, open_version, register, sha256, unique_bytes


@contextlib.contextmanager
def away(api, name):
    """A child that answers nobody while inside, and works again after."""
    pid = api.stack.pid_of(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: api.nobody.get("/readyz").json() == {"status": "ok"}, f"{name} is seen again", 40)


def test_all_is_well(api):
    assert api.nobody.get("/livez").json() == {"status": "ok"}
    assert api.nobody.get("/readyz").json() == {"status": "ok"}


def test_statusz_shows_everything(api, workspace):
    build(api, workspace)

    status = api.admin.get("/statusz").json()

    assert status["dependencies"] == {"postgres": "ok", "s3": "ok", "redis": "ok"}
    assert status["operations"]["queued"] >= 1
    assert status["oldest_queued_s"] >= 0
    assert {child["name"] for child in status["processes"]} == {"postgres", "redis", "s3", "gateway"}


def test_metrics_can_be_parsed_and_count_requests_by_route(api, w):
    api.admin.get(f"{w}/models/ridge/versions/1")

    families = {family.name: family for family in text_string_to_metric_families(api.admin.get("/metrics").text)}

    routes = {sample.labels["route"] for sample in families["keelway_api_requests"].samples}
    assert "/v1/workspaces/{workspace}/models/{name}/versions/{version}" in routes
    assert not [route for route in routes if w in route]
    assert "keelway_api_request_seconds" in families


@pytest.mark.parametrize("name", ["postgres", "s3"])
def test_a_killed_dependency_is_named_and_found_again_without_a_restart(api, w, name):
    data = unique_bytes()
    open_version(api.admin, w, "ridge", {"m.pkl": data})
    pid = api.stack.kill(name)
    statuses = set()

    def serves_again():
        assert api.nobody.get("/livez").status_code == 200
        ready = api.nobody.get("/readyz")
        for response in (
            ready,
            api.admin.get(f"{w}/models"),
            api.admin.get("/statusz"),
            api.admin.put(f"/v1/blobs/{sha256(data)}", content=data),
            api.admin.post(f"{w}/models/ridge/versions/1/commit"),
        ):
            statuses.add(response.status_code)
            assert response.status_code in {200, 204, 404, 409, 503}, response.text
            if response.status_code == 503 and response is not ready:
                assert_problem(response, "dependency-away")
                assert response.headers["retry-after"]
        is_away = ready.json()["status"] != "ok"
        if is_away:
            assert name in ready.json()["away"]
            assert ready.status_code == (503 if name == "postgres" else 200)
        return not is_away and api.stack.pid_of(name) != pid

    wait_until(serves_again, f"the API works with {name} again", 60)

    assert 503 in statuses
    api.stack.wait_restarted(name, pid)
    wait_until(lambda: api.nobody.get("/readyz").status_code == 200, "it is ready", 30)
    register(api.admin, w, "after", {"m.pkl": unique_bytes()})


def test_without_its_object_store_the_api_is_degraded_but_ready_and_says_so_in_time(api, w):
    with away(api, "s3"):
        started = time.monotonic()

        ready = api.nobody.get("/readyz")

        assert time.monotonic() - started < 10
        assert (ready.status_code, ready.json()["status"], list(ready.json()["away"])) == (200, "degraded", ["s3"])
        assert api.nobody.get("/livez").status_code == 200
        assert api.admin.get(f"{w}/models").status_code == 200


def test_without_redis_operations_are_accepted_and_rung_later(api, workspace):
    pid = api.stack.kill("redis")

    operation = build(api, workspace)

    assert api.nobody.get("/readyz").status_code == 200
    api.stack.wait_restarted("redis", pid)
    wait_until(lambda: not api.sql("SELECT 1 FROM outbox WHERE message = %s", operation), "it is rung", 30)


def test_a_wake_up_is_heard_again_after_postgres_came_back(api, workspace):
    pid = api.stack.kill("postgres")
    api.stack.wait_restarted("postgres", pid)
    wait_until(lambda: api.nobody.get("/readyz").status_code == 200, "Postgres is seen again", 30)

    operation = build(api, workspace)

    wait_until(lambda: not api.sql("SELECT 1 FROM outbox WHERE message = %s", operation), "it is rung", 30)


def test_a_stop_sends_long_polls_home(api, workspace):
    operation = build(api, workspace)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.admin.get, f"/v1/operations/{operation}", params={"wait_s": 60})
        time.sleep(0.5)  # it must be waiting: nothing shows that from outside
        started = time.monotonic()

        assert api.stop_api() in {0, -signal.SIGTERM}
        assert waiting.result().status_code == 200

    assert time.monotonic() - started < 5
    api.start_api()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"KEELWAY_HOST": "0.0.0.0"}, "KEELWAY_INSECURE"),
        ({"KEELWAY_PORT": "99999"}, "KEELWAY_PORT"),
        ({"KEELWAY_S3_ENDPOINT": None}, "KEELWAY_S3_ENDPOINT"),
        ({"KEELWAY_LEASE_S": "0"}, "KEELWAY_LEASE_S"),
        ({"KEELWAY_ADMIN_TOKEN": "hunter2", "KEELWAY_ADMIN_TOKEN_FILE": None}, "KEELWAY_ADMIN_TOKEN"),
        ({"KEELWAY_ADMIN_TOKEN_FILE": "/no/such/file"}, "KEELWAY_ADMIN_TOKEN_FILE"),
        ({"KEELWAY_GATEWAY_URL": "http://x/path"}, "KEELWAY_GATEWAY_URL"),
        ({"KEELWAY_DATABASE_URL": "junk", "KEELWAY_DATABASE_URL_FILE": None}, "KEELWAY_DATABASE_URL"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named_and_never_shown(api, change, named):
    env = {name: value for name, value in {**api.env(), **change}.items() if value is not None}

    done = subprocess.run([sys.executable, "-m", "keelway_api"], env=env, capture_output=True, text=True, timeout=30)

    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_an_api_is_not_ready_before_the_tokens_of_its_settings_are_there(api):
    api.kill_api()
    with api.connection() as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE")
        starting = threading.Thread(target=api.start_api)
        starting.start()
        wait_until(lambda: _readiness(api) == (503, {"status": "starting"}), "it answers, and is not ready", 30)
        connection.execute("ROLLBACK")
    starting.join()

    assert _readiness(api) == (200, {"status": "ok"})


def _readiness(api):
    with contextlib.suppress(httpx2.TransportError):
        answer = api.nobody.get("/readyz")
        return answer.status_code, answer.json()
