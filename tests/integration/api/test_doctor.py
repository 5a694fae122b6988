"""What `keelway doctor` says of stored content, over the API."""

import pytest

from keelway import Client
from keelway_standalone.checks import content
from keelway_standalone.checks.report import Report
from tests.support.registry import register, sha256, unique_bytes


@pytest.fixture
def look(api, workspace):
    """What is wrong with the bytes, and with this workspace's versions."""

    def connect(name):
        return Client(api.url, api.token("admin"), workspace=name)

    def wrong():
        report = Report()
        with connect(workspace) as client:
            content.check_blobs(client, report)
        content.check_versions(connect, [workspace], report)
        return report.wrong

    return wrong


def test_a_version_that_is_whole_is_no_fault(api, workspace, w, look):
    register(api.admin, w, "m", {"m/a.bin": unique_bytes(), "m/b.bin": unique_bytes()})

    assert not [one for one in look() if workspace in one]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE manifest_files SET path = 'm/c.bin' WHERE sha256 = %s",
        "UPDATE manifest_files SET size_bytes = 15 WHERE sha256 = %s",
        "DELETE FROM manifest_files WHERE sha256 = %s",
    ],
)
def test_a_manifest_that_was_changed_behind_our_back_is_named(api, workspace, w, look, change):
    data = unique_bytes()
    made = register(api.admin, w, "m", {"m/a.bin": data, "m/b.bin": unique_bytes()})

    api.sql(change, sha256(data))

    (wrong,) = [one for one in look() if workspace in one]
    assert wrong == f"content: {workspace}/m:1 lists other files than those of its digest {made['digest']}"


def test_a_file_whose_bytes_the_database_forgot_is_named(api, workspace, w, look):
    data = unique_bytes()
    register(api.admin, w, "m", {"m/a.bin": data, "m/b.bin": unique_bytes()})
    api.sql("DELETE FROM blobs WHERE sha256 = %s", sha256(data))

    (wrong,) = [one for one in look() if workspace in one]
    assert wrong == f"content: {workspace}/m:1 m/a.bin (sha256 {sha256(data)}) is not in the store"
