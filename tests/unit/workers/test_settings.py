"""What the processes are told."""

from __future__ import annotations

import pytest

from keelway_workers.__main__ import main
from keelway_workers.settings import SettingsInvalid, load_settings


@pytest.fixture(autouse=True)
def _required(monkeypatch, tmp_path):
    for name in ("KEELWAY_REDIS_URL", "KEELWAY_GATEWAY_TOKEN", "KEELWAY_PYTHONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEELWAY_WORKER_TOKEN", "token")
    monkeypatch.setenv("KEELWAY_NODE_DIR", str(tmp_path))


def test_the_documented_defaults():
    settings = load_settings()

    assert settings.url == "http://127.0.0.1:7300"
    assert settings.worker_concurrency == 2
    assert settings.gateway_routes_file is None
    assert settings.routes_token == "token"


def test_everything_missing_is_said_at_once(monkeypatch):
    monkeypatch.delenv("KEELWAY_WORKER_TOKEN")
    monkeypatch.setenv("KEELWAY_NODE_DIR", "")

    with pytest.raises(SettingsInvalid) as invalid:
        load_settings()

    assert "KEELWAY_WORKER_TOKEN is required (or KEELWAY_WORKER_TOKEN_FILE, a path)" in str(invalid.value)
    assert "KEELWAY_NODE_DIR is required" in str(invalid.value)


def test_a_secret_may_lie_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.delenv("KEELWAY_WORKER_TOKEN")
    monkeypatch.setenv("KEELWAY_WORKER_TOKEN_FILE", str(tmp_path / "token"))

    assert load_settings().worker_token.get_secret_value() == "from-file"


def test_a_secret_file_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("KEELWAY_WORKER_TOKEN_FILE", "/no/such/file")

    with pytest.raises(SettingsInvalid, match="KEELWAY_WORKER_TOKEN_FILE: /no/such/file"):
        load_settings()


def test_secrets_do_not_show_in_the_settings_text():
    assert "token" not in repr(load_settings().worker_token)


def test_only_the_worker_needs_the_doorbell(capsys):
    assert main(["worker"]) == 2
    assert "KEELWAY_REDIS_URL is required" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["both"], ["worker", "supervisor"]])
def test_another_command_shows_how(arguments, capsys):
    assert main(arguments) == 2
    assert "worker|supervisor" in capsys.readouterr().err
