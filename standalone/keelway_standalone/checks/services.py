"""What the running services are set to, asked of them."""

from __future__ import annotations

import subprocess

import minio
import psycopg
import redis as client_library
import urllib3
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from keelway_standalone.checks.report import Report
from keelway_standalone.postgres import Postgres
from keelway_standalone.redis import Redis
from keelway_standalone.s3 import BUCKET, READ_SETTINGS, S3, fsync_is_set

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "data_checksums": "on",
    "password_encryption": "scram-sha-256",
    "listen_addresses": "",
}
SHOWN = ("wal_level", "wal_sync_method", "max_connections", "shared_buffers")


def check_postgres(postgres: Postgres, report: Report) -> None:
    """Durability, and that the API's role is not a superuser."""
    try:
        with postgres.connect() as connection:
            for name, wanted in DURABLE.items():
                report.expect("postgres", name, _show(connection, name), wanted)
            for name in SHOWN:
                report.fact("postgres", name, _show(connection, name))
            row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
            report.expect("postgres", "app role is superuser", bool(row and row[0]), False)
    except psycopg.Error as error:
        report.claim(False, f"postgres: does not answer: {error}")


def _show(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else ""


def check_redis(redis: Redis, report: Report) -> None:
    """That it drops nothing, lets nobody in without a password, and gives us no more than we need."""
    try:
        with redis.client() as client:
            report.expect("redis", "maxmemory-policy", client.info("memory")["maxmemory_policy"], "noeviction")  # type: ignore[index]
            report.expect("redis", "CONFIG is refused", _is_refused(client, "CONFIG", "GET", "dir"), True)
        with client_library.Redis(unix_socket_path=str(redis.socket), retry=Retry(NoBackoff(), 0)) as stranger:
            report.expect("redis", "strangers are refused", _is_refused(stranger, "PING"), True)
    except client_library.RedisError as error:
        report.claim(False, f"redis: does not answer: {error}")


def _is_refused(client: client_library.Redis, *command: str) -> bool:
    try:
        client.execute_command(*command)
    except (client_library.AuthenticationError, NoPermissionError):
        return True
    return False


def check_s3(s3: S3, report: Report) -> None:
    """That writes are synced, strangers refused, and the bucket is there."""
    try:
        report.expect("s3", "fsync of each write", fsync_is_set(_settings(s3)), True)
        report.expect("s3", "status of a request without a key", s3.anonymous_status(), 403)
        report.expect("s3", f"bucket {BUCKET} exists", s3.client().bucket_exists(BUCKET), True)
    except (OSError, subprocess.SubprocessError, minio.S3Error, urllib3.exceptions.HTTPError) as error:
        report.claim(False, f"s3: does not answer: {error}")


def _settings(s3: S3) -> str:
    shell = subprocess.run(
        s3.shell_argv(), input=READ_SETTINGS, capture_output=True, text=True, cwd=s3.folder, timeout=20, check=False
    )
    return shell.stdout + shell.stderr
