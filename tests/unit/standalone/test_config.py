import hashlib
import json
from dataclasses import replace

import pytest

from keelway_standalone.addresses import S3_PORTS, Addresses
from keelway_standalone.control import Control
from keelway_standalone.gateway import Gateway, static_config
from keelway_standalone.layout import Layout
from keelway_standalone.postgres import Postgres
from keelway_standalone.redis import Redis, rights
from keelway_standalone.s3 import S3, count_identities, fsync_is_set, identities, security
from keelway_standalone.secrets import MAKERS, Secrets
from keelway_standalone.stack import STOP_ORDER

ADDRESSES = Addresses(
    port=7300,
    gateway_port=7301,
    s3={name: 20_000 + n for n, name in enumerate(S3_PORTS)},
    sockets="/tmp/keelway-x",
    node="here",
)


@pytest.fixture
def layout(tmp_path):
    layout = Layout.at(tmp_path / "data")
    layout.make()
    return layout


@pytest.fixture
def secrets(layout):
    secrets = Secrets(layout.secrets)
    secrets.make()
    return secrets


@pytest.fixture
def control(layout, secrets):
    return Control(layout, ADDRESSES, secrets, database_url="postgresql://secret-a", redis_url="redis://secret-b")


def test_redis_knows_the_hash_of_the_password_and_nobody_else():
    text = rights("geheim")

    assert "geheim" not in text
    assert f"#{hashlib.sha256(b'geheim').hexdigest()}" in text
    assert text.startswith("user default off ")
    assert "+@all" not in text
    assert "nopass" not in text


def test_the_gateway_has_one_door_and_calls_nobody(layout):
    config = static_config(layout, ADDRESSES)

    assert list(config["entryPoints"]) == ["web"]
    assert config["entryPoints"]["web"]["address"] == "127.0.0.1:7301"
    assert config["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert not {"api", "accessLog", "ping", "metrics"} & config.keys()


def test_the_gateway_listens_on_ipv6_in_brackets(layout):
    address = static_config(layout, Addresses(host="::1", gateway_port=1))["entryPoints"]["web"]["address"]

    assert address == "[::1]:1"


def test_the_object_store_gets_one_identity_and_four_keys(layout, secrets):
    path = layout.s3 / "identities.json"
    path.write_text(identities(secrets))

    assert count_identities(path) == 1
    assert security(secrets).count("key = ") == 4


@pytest.mark.parametrize(
    "text", ["", "{}", '{"identities": []}', '{"identities": [{"credentials": [{"accessKey": "", "secretKey": "x"}]}]}']
)
def test_identities_without_keys_count_as_none(tmp_path, text):
    (tmp_path / "identities.json").write_text(text)

    assert count_identities(tmp_path / "identities.json") == 0


def printed(fsync):
    return f"> {json.dumps({'version': 1, 'locations': [{'locationPrefix': '/buckets/', 'fsync': fsync}]})}\n> "


def test_what_the_shell_printed_last_counts():
    assert fsync_is_set(printed(False) + printed(True))
    assert not fsync_is_set(printed(True) + printed(False))
    assert not fsync_is_set("master not found")


def programs(control, layout, secrets):
    return [control.api(), control.worker(bool), control.supervisor(), S3(layout, ADDRESSES, secrets).program()]


def test_no_secret_stands_in_a_command_or_in_an_environment(control, layout, secrets):
    texts = [secrets.read(name) for name in MAKERS] + ["secret-a", "secret-b"]

    for program in programs(control, layout, secrets):
        shown = " ".join([*program.argv, *program.env.values()])
        assert not [text for text in texts if text in shown]


def test_only_the_api_is_told_where_the_database_and_the_store_are(control):
    for program in (control.worker(bool), control.supervisor()):
        assert not [name for name in program.env if "DATABASE" in name or "S3" in name or "ADMIN" in name]


def test_only_the_worker_and_the_api_are_told_where_redis_is(control):
    assert "KEELWAY_REDIS_URL_FILE" in control.api().env
    assert "KEELWAY_REDIS_URL_FILE" in control.worker(bool).env
    assert "KEELWAY_REDIS_URL_FILE" not in control.supervisor().env


def test_an_environment_is_built_and_not_inherited(monkeypatch, control, layout, secrets):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "theirs")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("KEELWAY_TOKEN", "theirs")

    for program in programs(control, layout, secrets):
        assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONDONTWRITEBYTECODE", "KEELWAY_TOKEN"} & program.env.keys()


def test_graces_add_up_to_less_than_fifteen_seconds(control, layout, secrets):
    programs = [
        control.api(),
        control.worker(bool),
        control.supervisor(),
        S3(layout, ADDRESSES, secrets).program(),
        Redis(layout, ADDRESSES, secrets).program(),
        Gateway(layout, ADDRESSES).program(),
        Postgres(layout, ADDRESSES, secrets).program(),
    ]
    grace_s = {program.name: program.stop_grace_s for program in programs}

    assert {name for names in STOP_ORDER for name in names} == set(grace_s)
    assert sum(max(grace_s[name] for name in names) for names in STOP_ORDER) < 15


def test_what_an_operator_tunes_reaches_the_process_that_reads_it(monkeypatch, layout, secrets):
    monkeypatch.setenv("KEELWAY_LEASE_S", "7")
    control = Control(layout, ADDRESSES, secrets, database_url="", redis_url="")

    assert control.api().env["KEELWAY_LEASE_S"] == "7"
    assert "KEELWAY_LEASE_S" not in control.worker(bool).env


@pytest.mark.parametrize(
    ("host", "given", "url"),
    [
        ("127.0.0.1", {}, f"http://{ADDRESSES.s3_endpoint}"),
        ("::1", {}, f"http://{ADDRESSES.s3_endpoint}"),
        ("0.0.0.0", {}, ""),
        ("192.0.2.1", {}, ""),
        ("127.0.0.1", {"KEELWAY_BEHIND_PROXY": "true"}, ""),
        ("127.0.0.1", {"KEELWAY_S3_PUBLIC_URL": ""}, ""),
        ("0.0.0.0", {"KEELWAY_S3_PUBLIC_URL": "https://store.example"}, "https://store.example"),
    ],
)
def test_clients_are_sent_to_the_store_only_when_they_are_on_this_host(layout, secrets, monkeypatch, host, given, url):
    for name in ("KEELWAY_S3_PUBLIC_URL", "KEELWAY_BEHIND_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    control = Control(layout, replace(ADDRESSES, host=host), secrets, database_url="a", redis_url="b")

    assert control.api().env["KEELWAY_S3_PUBLIC_URL"] == url
