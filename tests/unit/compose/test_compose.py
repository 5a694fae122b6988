"""docker-compose.yml, the Dockerfile and deploy/: what they promise, read without an engine."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr

from keelway_api.auth.secrets import PATTERN
from keelway_api.settings import ApiSettings
from keelway_standalone.addresses import S3_PORTS, Addresses
from keelway_standalone.gateway import static_config
from keelway_standalone.layout import Layout
from keelway_standalone.redis import COMMANDS, CONFIG
from keelway_standalone.s3 import S3
from keelway_standalone.secrets import Secrets
from keelway_workers.settings import SECRETS as WORKER_SECRETS
from keelway_workers.settings import WorkerSettings
from tests.support.compose import compose_client

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS = {"migrate": ApiSettings, "api": ApiSettings, "worker": WorkerSettings, "supervisor": WorkerSettings}
ONE_SHOT = {"migrate"}
PUBLISHED = {"api", "gateway"}
OURS = ["migrate", "api", "worker", "supervisor"]
HARDENED = [*OURS, "redis", "s3", "gateway"]


def environment(service: str) -> dict[str, str]:
    return SERVICES[service].get("environment", {})


def settings_given(service: str) -> dict[str, str]:
    """Fields of the settings class by how they are given: as they are, or by `_FILE`."""
    given = {}
    for variable in environment(service):
        if variable.startswith("KEELWAY_"):
            field = variable.removeprefix("KEELWAY_").lower()
            given[
                field.removesuffix("_file") if variable.endswith("_FILE") and is_secret(service, field) else field
            ] = variable
    return given


def is_secret(service: str, field: str) -> bool:
    found = SETTINGS[service].model_fields.get(field.removesuffix("_file"))
    return found is not None and SecretStr in (found.annotation, *get_args(found.annotation))


@pytest.mark.parametrize("service", SETTINGS)
def test_each_setting_is_one_that_the_process_knows(service):
    unknown = set(settings_given(service)) - set(SETTINGS[service].model_fields)

    assert not unknown


@pytest.mark.parametrize("service", SETTINGS)
def test_each_required_setting_is_given(service):
    required = {name for name, field in SETTINGS[service].model_fields.items() if field.is_required()}
    if service == "worker":
        required.add("redis_url")  # required for this one of the two processes

    assert required <= set(settings_given(service))


@pytest.mark.parametrize("service", SETTINGS)
def test_secrets_are_given_as_files_that_are_mounted(service):
    for field, variable in settings_given(service).items():
        if is_secret(service, field):
            assert variable.endswith("_FILE"), f"{variable} stands in clear"
            mount, _, name = environment(service)[variable].rpartition("/")
            assert (mount, name in SERVICES[service]["secrets"]) == ("/run/secrets", True)


def test_the_worker_reads_its_secrets_from_files():
    assert {name for name in WORKER_SECRETS if is_secret("worker", name)} == set(WORKER_SECRETS)


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_stands_in_clear(service):
    for variable, value in environment(service).items():
        if re.search(r"PASSWORD|TOKEN|SECRET|ACCESS_KEY|DATABASE_URL|REDIS_URL", variable):
            assert variable.endswith("_FILE"), variable
            assert str(value).startswith("/run/secrets/")


@pytest.mark.parametrize("service", SERVICES)
def test_each_image_has_a_version(service):
    assert re.fullmatch(r"[a-z0-9/._-]+:v?\d+\.\d+(\.\d+)?", SERVICES[service]["image"])


def test_our_images_have_our_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert {SERVICES[name]["image"].partition(":")[2] for name in OURS} == {version}
    assert re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.M) == [version, version]


def test_only_the_api_and_the_gateway_publish_ports_on_loopback_by_default():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert set(ports) == PUBLISHED
    assert all(port.startswith("${KEELWAY_BIND:-127.0.0.1}:") for listed in ports.values() for port in listed)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_watched_and_restarted_or_runs_once(service):
    if service in ONE_SHOT:
        assert SERVICES[service]["restart"] == "no"
    else:
        assert SERVICES[service]["restart"] == "unless-stopped"
        assert SERVICES[service]["healthcheck"]["test"]


@pytest.mark.parametrize("service", HARDENED)
def test_a_container_has_no_capabilities_and_a_read_only_root(service):
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]


def test_nobody_is_privileged_or_holds_the_engine():
    for service in SERVICES.values():
        assert not service.get("privileged")
        assert not service.get("network_mode")
        assert "docker.sock" not in str(service.get("volumes"))


@pytest.mark.parametrize("store", ["postgres", "redis", "s3"])
def test_replicas_are_on_no_network_with_a_store(store):
    assert not set(SERVICES["supervisor"]["networks"]) & set(SERVICES[store]["networks"])


@pytest.mark.parametrize("network", ["data", "doorbell"])
def test_the_stores_have_no_way_out(network):
    assert COMPOSE["networks"][network] == {"internal": True}


def test_replicas_are_announced_by_a_name_that_only_the_gateways_network_knows():
    host = environment("supervisor")["KEELWAY_REPLICA_HOST"]

    assert SERVICES["supervisor"]["networks"]["serving"]["aliases"] == [host]
    assert "serving" in SERVICES["gateway"]["networks"]


def test_worker_and_supervisor_are_one_node():
    for name in ("KEELWAY_NODE_NAME", "KEELWAY_NODE_DIR", "KEELWAY_URL"):
        assert environment("worker")[name] == environment("supervisor")[name]
    assert "node:/var/lib/keelway" in SERVICES["worker"]["volumes"]
    assert "node:/var/lib/keelway" in SERVICES["supervisor"]["volumes"]


def test_the_api_answers_to_the_name_that_workers_call():
    host = environment("worker")["KEELWAY_URL"].removeprefix("http://").partition(":")[0]

    assert host in SERVICES
    assert host in environment("api")["KEELWAY_ALLOWED_HOSTS"].split(",")


def test_everything_named_is_declared():
    for service in SERVICES.values():
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_the_script_makes_each_secret_of_the_compose_file(tmp_path):
    folder = make_secrets(tmp_path)

    made = {path.name for path in folder.iterdir()}
    assert made == set(COMPOSE["secrets"])
    assert {secret["file"] for secret in COMPOSE["secrets"].values()} == {f"./secrets/{name}" for name in made}


def test_the_script_makes_tokens_and_urls_that_the_api_takes(tmp_path, monkeypatch):
    folder = make_secrets(tmp_path)
    for name in [name for name in os.environ if name.startswith("KEELWAY_")]:
        monkeypatch.delenv(name)
    for variable, value in environment("api").items():
        as_compose_gives_it = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        monkeypatch.setenv(variable, as_compose_gives_it.replace("/run/secrets", str(folder)))

    settings = ApiSettings()  # pyright: ignore[reportCallIssue]

    for token in (settings.admin_token, settings.worker_token, settings.gateway_token):
        assert token is not None
        assert PATTERN.fullmatch(token.get_secret_value())
    assert settings.s3_public_url is None  # its store is not published
    password = (folder / "postgres_app").read_text().strip()
    assert settings.database_url.get_secret_value() == f"postgresql+psycopg://keelway:{password}@postgres:5432/keelway"


def test_a_second_run_of_the_script_changes_nothing(tmp_path):
    folder = make_secrets(tmp_path)
    before = {path.name: path.read_text() for path in folder.iterdir()}

    make_secrets(tmp_path)

    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert len(set(before.values())) == len(before)


def test_the_secrets_are_behind_a_closed_folder_and_out_of_git(tmp_path):
    folder = make_secrets(tmp_path)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*", "only what is named reaches an image"


def make_secrets(tmp_path: Path) -> Path:
    subprocess.run(["sh", DEPLOY / "make-secrets.sh", tmp_path / "secrets"], check=True)
    return tmp_path / "secrets"


def test_the_gateway_is_set_up_as_the_embedded_one(tmp_path):
    config = yaml.safe_load((DEPLOY / "gateway" / "traefik.yml").read_text())
    embedded = static_config(Layout.at(tmp_path), Addresses(port=7300, gateway_port=7301))

    assert config["entryPoints"]["ping"]["address"].startswith("127.0.0.1:")
    assert config.pop("ping") == {"entryPoint": "ping"}
    del config["entryPoints"]["ping"]
    config["entryPoints"]["web"]["address"] = embedded["entryPoints"]["web"]["address"]
    config["providers"]["file"]["filename"] = embedded["providers"]["file"]["filename"]
    assert config == embedded


def test_redis_allows_what_the_embedded_one_allows():
    lines = (DEPLOY / "redis" / "commands").read_text().splitlines()
    config = set((DEPLOY / "redis" / "redis.conf").read_text().splitlines())

    assert " ".join(line for line in lines if not line.startswith("#")).split() == COMMANDS.split()
    for line in CONFIG.splitlines():
        if line.split()[0] not in {"port", "unixsocket", "unixsocketperm", "aclfile", "dir"}:
            assert line in config


def test_the_object_store_is_started_as_the_embedded_one(tmp_path):
    layout = Layout.at(tmp_path / "data")
    layout.make()
    secrets = Secrets(layout.secrets)
    secrets.make()
    ports = {name: 20_000 + n for n, name in enumerate(S3_PORTS)}
    addresses = Addresses(port=7300, gateway_port=7301, s3=ports)
    script = (DEPLOY / "s3" / "start.sh").read_text()

    for flag in S3(layout, addresses, secrets).program().argv[1:]:
        name, _, value = flag.partition("=")
        is_a_place = value.startswith(str(tmp_path)) or value in {str(port) for port in ports.values()}
        assert (f"{name}=" if is_a_place else flag) in script


@pytest.mark.parametrize("script", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: path.name)
def test_a_script_parses_and_can_be_run(script):
    subprocess.run(["sh", "-n", script], check=True)

    assert os.access(script, os.X_OK)


def test_the_dockerfile_takes_the_uv_of_the_lock():
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    locked = next(package["version"] for package in packages if package["name"] == "uv")

    assert f"ARG UV_VERSION={locked}\n" in (ROOT / "Dockerfile").read_text()


def test_the_dockerfile_has_what_the_compose_file_builds_and_needs_no_buildkit():
    text = (ROOT / "Dockerfile").read_text()

    assert {SERVICES[name]["build"]["target"] for name in OURS} <= set(re.findall(r" AS (\S+)$", text, re.M))
    assert not re.search(r"^RUN --mount", text, re.M)
    assert len(re.findall(r"^USER 10001:10001$", text, re.M)) == 2


def test_compose_itself_takes_the_file(tmp_path):
    client = compose_client()
    if client is None:
        pytest.skip("no docker compose client on this machine")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)

    checked = subprocess.run([*client, "config", "-q"], cwd=tmp_path, capture_output=True, text=True)

    assert (checked.returncode, checked.stdout) == (0, "")
