from pathlib import Path

import pytest

from keelway_runtime.settings import Settings, SettingsError


def settings(**environ):
    return Settings.from_environ({"AZUREML_ENTRY_SCRIPT": "score.py", **environ})


def test_defaults_serve_on_the_loopback_port_5001():
    chosen = settings()

    assert (chosen.host, chosen.port, chosen.listen_fd) == ("127.0.0.1", 5001, None)
    assert chosen.max_body_bytes == 100 * 1024 * 1024
    assert chosen.grace_s == 10
    assert chosen.app_root == Path.cwd()


def test_every_variable_is_read():
    chosen = settings(
        AML_APP_ROOT="/srv/app",
        AZUREML_SOURCE_DIRECTORY="src",
        AZUREML_MODEL_DIR="/models",
        SERVICE_NAME="fraud",
        KEELWAY_WORKSPACE="bank",
        KEELWAY_REVISION="7",
        KEELWAY_HOST="0.0.0.0",
        KEELWAY_PORT="80",
        KEELWAY_LISTEN_FD="3",
        KEELWAY_MAX_BODY_BYTES="10",
        KEELWAY_MAX_ANSWER_BYTES="11",
        KEELWAY_MAX_CONNECTIONS="12",
        KEELWAY_MAX_QUEUE="13",
        KEELWAY_MAX_QUEUE_WAIT_MS="14",
        KEELWAY_SCORING_TIMEOUT_MS="15",
        KEELWAY_WORKERS="2",
        KEELWAY_MAX_CONCURRENT_REQUESTS="3",
        KEELWAY_BATCH_SIZE="16",
        KEELWAY_BATCH_DELAY_MS="17",
        KEELWAY_CORS_ORIGINS="http://a, http://b http://c",
        KEELWAY_KEYS_FILE="/keys",
        KEELWAY_TOKENS_FILE="/tokens",
        KEELWAY_COLLECT_DIR="/spool",
        KEELWAY_COLLECT_MAX_BYTES="18",
        KEELWAY_GRACE_S="0",
    )

    assert chosen == Settings(
        app_root=Path("/srv/app"),
        entry_script="score.py",
        source_directory=Path("/srv/app/src"),
        model_dir="/models",
        service_name="fraud",
        workspace="bank",
        revision="7",
        host="0.0.0.0",
        port=80,
        listen_fd=3,
        max_body_bytes=10,
        max_answer_bytes=11,
        max_connections=12,
        max_queue=13,
        max_queue_wait_ms=14,
        scoring_timeout_ms=15,
        workers=2,
        max_concurrent_requests=3,
        batch_size=16,
        batch_delay_ms=17,
        cors_origins=("http://a", "http://b", "http://c"),
        keys_file=Path("/keys"),
        tokens_file=Path("/tokens"),
        collect_dir=Path("/spool"),
        collect_max_bytes=18,
        grace_s=0,
    )


def test_an_empty_variable_counts_as_absent():
    assert settings(KEELWAY_PORT="", AZUREML_SOURCE_DIRECTORY="").port == 5001


@pytest.mark.parametrize("value", ["-1", "1.5", "eighty", "٣", "65536"])
def test_a_port_that_is_none_is_refused_by_name(value):
    with pytest.raises(SettingsError, match="KEELWAY_PORT"):
        settings(KEELWAY_PORT=value)


def test_without_an_entry_script_there_is_nothing_to_serve():
    with pytest.raises(SettingsError, match="AZUREML_ENTRY_SCRIPT"):
        Settings.from_environ({})


@pytest.mark.parametrize("name", ["WORKERS", "MAX_CONCURRENT_REQUESTS", "MAX_CONNECTIONS", "SCORING_TIMEOUT_MS"])
def test_what_cannot_be_none_at_all_is_refused(name):
    with pytest.raises(SettingsError, match=f"KEELWAY_{name} must be at least 1"):
        settings(**{f"KEELWAY_{name}": "0"})


def test_a_framework_stands_in_for_a_script():
    chosen = Settings.from_environ({"KEELWAY_NO_CODE": "ScikitLearn"})

    assert (chosen.entry_script, chosen.no_code) == ("", "ScikitLearn")
