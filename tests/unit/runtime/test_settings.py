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
