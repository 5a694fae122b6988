"""A file that is larger than the API takes is refused before a byte of it is sent."""

import pytest

from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.registry import register, sha256

LIMIT_BYTES = 1000


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """An API of its own, that takes small files only."""
    api = Api(tmp_path_factory.mktemp("small"), KEELWAY_MAX_FILE_BYTES=str(LIMIT_BYTES))
    api.start()
    yield api
    api.stop()


def listed(size_bytes):
    files = [("m/small.bin", 1), ("m/large.bin", size_bytes)]
    return {"files": [{"path": path, "size_bytes": size, "sha256": sha256(path.encode())} for path, size in files]}


@pytest.mark.parametrize("path", ["models/m/versions", "snapshots", "experiments/e/runs/r/outputs"])
def test_a_manifest_that_lists_it_is_refused_naming_it(api, w, path):
    api.admin.post(f"{w}/experiments/e/runs", json={"id": "r"})

    problem = assert_problem(api.admin.post(f"{w}/{path}", json=listed(LIMIT_BYTES + 1)), "too-large")
    accepted = api.admin.post(f"{w}/{path}", json=listed(LIMIT_BYTES))

    assert (problem["path"], problem["limit_bytes"]) == ("m/large.bin", LIMIT_BYTES)
    assert "m/large.bin" in problem["detail"]
    assert accepted.status_code == 201, accepted.text


def test_a_form_with_it_is_refused_naming_it(api, w):
    files = [("file", ("large.bin", bytes(LIMIT_BYTES + 1)))]

    answer = api.admin.post(f"{w}/models/formed/versions:upload", files=files)

    assert assert_problem(answer, "too-large")["path"] == "large.bin"


def test_the_largest_that_is_taken_is_taken(api, w):
    assert register(api.admin, w, "m", {"m.bin": bytes(LIMIT_BYTES)})["state"] == "ready"
