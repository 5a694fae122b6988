import pytest

from keelway_standalone.doctor import examine
from keelway_standalone.layout import Layout
from keelway_standalone.s3 import identities
from keelway_standalone.secrets import Secrets


@pytest.fixture
def layout(tmp_path):
    """A data directory as a stopped `up` leaves it."""
    layout = Layout.at(tmp_path / "data")
    layout.make()
    secrets = Secrets(layout.secrets)
    secrets.make()
    (layout.s3 / "identities.json").write_text(identities(secrets))
    return layout


def test_a_stopped_stack_is_looked_at_and_said_to_be_stopped(layout):
    report = examine(layout)

    assert report.wrong == []
    assert ("up", "state", "stopped: only files were looked at") in report.facts
    assert {name for subject, name, _ in report.facts if subject == "versions"} >= {"postgres", "redis", "traefik"}


def test_a_data_directory_that_was_never_made_is_no_fault(tmp_path):
    assert examine(Layout.at(tmp_path / "none")).wrong == []


def test_a_secret_that_others_can_read_is_named(layout):
    (layout.secrets / "redis").chmod(0o640)

    assert examine(layout).wrong == [f"files: {layout.secrets / 'redis'} has mode 0640, not 0600"]


def test_an_open_folder_is_named(layout):
    layout.logs.chmod(0o755)

    assert examine(layout).wrong == [f"files: {layout.logs} has mode 0755, not 0700"]


def test_a_missing_secret_is_named(layout):
    (layout.secrets / "postgres_app").unlink()

    assert examine(layout).wrong == ["files: secrets are missing: postgres_app"]


def test_an_object_store_without_keys_is_named(layout):
    (layout.s3 / "identities.json").write_text("{}")

    assert examine(layout).wrong == ["s3: identities with keys is 0, not 1"]
