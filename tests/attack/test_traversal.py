"""Paths that want to be elsewhere: a file is looked up by equality in its manifest, and nowhere else."""

import os

import pytest

from tests.support.raw import ask
from tests.support.registry import register

PAYLOADS = [
    *(
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "%252e%252e%252fetc%252fpasswd",
    ),
    *(
        "..%5c..%5cetc%5cpasswd",
        "..\\..\\etc\\passwd",
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "file:///etc/passwd",
    ),
    *(
        "m.pkl%00",
        "m.pkl%00.txt",
        "%00",
        "./m.pkl",
        "m.pkl/.",
        "m.pkl/..",
        "x/../m.pkl",
        "m.pkl%2f",
        "M.PKL",
        "m.pkl.",
        "m.pkl%20",
    ),
    *(
        "..;/m.pkl",
        "m.pkl;x",
        "%c0%ae%c0%ae/etc/passwd",
        "%uff0e%uff0e/x",
        "~/.ssh/id_rsa",
        "$HOME",
        "a" * 8000,
        "../" * 1000,
    ),
    *(
        "..%2f1%2ffiles%2fm.pkl",
        "../files/m.pkl",
        "%E2%80%AEm.pkl",
        "con",
        "nul",
        "m.pkl::$DATA",
        "|id",
        "`id`",
        "$(id)",
    ),
]


@pytest.fixture(scope="module")
def version(api):
    """The path of a version with one file, m.pkl."""
    w = f"/v1/workspaces/{api.workspace()}"
    register(api.admin, w, "ridge", {"m.pkl": b"the only file"})
    return f"{w}/models/ridge/versions/1"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload[:24])
def test_a_download_never_leaves_its_manifest(api, version, method, payload):
    status, body = ask(api, method, f"{version}/files/{payload}")

    assert status in {400, 404, 405, 422, 307}
    assert b"root:" not in body
    assert b"the only file" not in body


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload[:24])
@pytest.mark.parametrize("place", ["models/{}/versions/1", "services/{}", "environments/{}/versions/1", "snapshots/{}"])
def test_a_name_never_leaves_its_workspace(api, version, payload, place):
    w = version.split("/models")[0]

    status, body = ask(api, "GET", f"{w}/{place.format(payload)}")

    assert status in {400, 404, 405, 422, 307}
    assert b"root:" not in body


def test_what_is_made_lies_where_it_should(api, version):
    known = {entry.name for entry in os.scandir(api.stack.data_dir)}

    assert known <= {
        *("addresses.json", "config", "gateway", "lock", "logs", "node", "postgres"),
        *("redis", "s3", "secrets", "status.json"),
    }
