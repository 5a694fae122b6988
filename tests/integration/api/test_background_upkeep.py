"""What the API does by itself, with nobody asking: reading bytes again, and deleting those that nothing needs."""

import pytest

from tests.support.api import wait_until
from tests.support.objects import keys_of, remove, write
from tests.support.registry import register, sha256, unique_bytes

OFTEN = {"KEELWAY_SCRUB_EVERY_S": "1", "KEELWAY_GC_EVERY_S": "1", "KEELWAY_GC_GRACE_S": "1"}
SELDOM = {"KEELWAY_SCRUB_EVERY_S": "2592000", "KEELWAY_GC_EVERY_S": "600", "KEELWAY_GC_GRACE_S": "86400"}


@pytest.fixture(scope="module", autouse=True)
def often(api):
    """The API does so every second."""
    for settings in (OFTEN, SELDOM):
        api.stop_api()
        api.change(**settings)
        api.start_api()
        if settings is OFTEN:
            yield


def state(api, w):
    return api.admin.get(f"{w}/models/m/versions/1").json()["state"]


def found(api, w, data, wanted):
    """Wait until a look at these bytes, before all others, has made the version so."""

    def is_so():
        # Asked for again and again: a look that began before the bytes changed puts them behind all others.
        api.sql("UPDATE blobs SET verified_at = now() - interval '1 year' WHERE sha256 = %s", sha256(data))
        return state(api, w) == wanted

    wait_until(is_so, f"the version is {wanted}")


def test_lost_bytes_are_found(api, w):
    data = unique_bytes()
    register(api.admin, w, "m", {"m.pkl": data})
    remove(api.stack.s3, sha256(data))

    found(api, w, data, "corrupt")

    assert [line for line in api.log_lines() if line.get("sha256") == sha256(data) and line["level"] == "error"]


def test_files_without_known_bytes_are_found(api, w):
    data = unique_bytes()
    register(api.admin, w, "m", {"m.pkl": data})
    api.sql("DELETE FROM blobs WHERE sha256 = %s", sha256(data))

    wait_until(lambda: state(api, w) == "corrupt", "the version is corrupt")


def test_bytes_that_are_there_again_mend_their_version(api, w):
    data = unique_bytes()
    register(api.admin, w, "m", {"m.pkl": data})
    key = remove(api.stack.s3, sha256(data))
    found(api, w, data, "corrupt")

    write(api.stack.s3, key, data)

    found(api, w, data, "ready")


def test_bytes_that_nothing_refers_to_are_deleted(api, w):
    data = unique_bytes()
    register(api.admin, w, "m", {"m.pkl": data})
    assert keys_of(api.stack.s3, sha256(data))

    assert api.admin.delete(f"{w}/models/m").status_code == 204

    wait_until(lambda: not keys_of(api.stack.s3, sha256(data)), "the object is gone")
    assert api.worker.get(f"/v1/blobs/{sha256(data)}").status_code == 404
