"""File names of forms that want to be paths of the server's: a name stands beside bytes that go by their digest."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.objects import keys_of
from tests.support.registry import sha256, unique_bytes

REFUSED = [
    *("../../x", "a/../../b", "..", "a/..", "/etc/passwd", "//host/share", "..\\..\\x", "a//b", "./a", "a/."),
    *("x\u202egpj.exe", "x\u200b", "x\x7f", "x\x01", "a/" * 2048 + "b", "x" * 4096),
]
KEPT = [
    "CON",
    "nul.txt",
    "COM1",
    ".ssh",
    "-rf",
    "~",
    "~root",
    "$HOME",
    "%2e%2e%2fx",
    "x;y",
    "x'y",
    "a b",
    "naïve",
]
# A disposition that names the file twice, or in another way.
DISPOSITIONS = [
    'filename="C:\\x"',
    'filename="m.pkl"; filename="../x"',
    "filename*=UTF-8''..%2f..%2fx",
    "filename=\"m.pkl\"; filename*=UTF-8''%2fetc%2fpasswd",
    "filename=../../x",
    'filename="..\\/..\\/x"',
    'filename="x\0/../y"',
]


@pytest.fixture(scope="module")
def w(api):
    """A workspace of this module."""
    return f"/v1/workspaces/{api.workspace()}"


def send(api, w, disposition: str, data: bytes) -> httpx2.Response:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; {disposition}\r\n\r\n'
    content = head.encode() + data + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return api.admin.post(f"{w}/models/formed/versions:upload", content=content, headers=headers)


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: repr(name[:20]))
def test_a_name_that_is_no_path_within_is_refused(api, w, name):
    data = unique_bytes()

    answer = send(api, w, f'filename="{name}"', data)

    assert answer.status_code in {400, 422}, answer.text
    assert keys_of(api.stack.s3, sha256(data)) == []


@pytest.mark.parametrize("name", KEPT)
def test_a_name_that_is_odd_elsewhere_is_a_name(api, w, name):
    data = unique_bytes()

    answer = send(api, w, f'filename="{name}"', data)

    assert answer.status_code == 201, answer.text
    assert [file["path"] for file in answer.json()["files"]] == [name]
    assert keys_of(api.stack.s3, sha256(data))
    assert not [key for key in keys_of(api.stack.s3, sha256(data)) if name in key]


@pytest.mark.parametrize("disposition", DISPOSITIONS)
def test_a_name_that_is_said_in_two_ways_leads_nowhere(api, w, disposition):
    answer = send(api, w, disposition, unique_bytes())

    assert answer.status_code in {201, 400, 422}, answer.text
    paths = [file["path"] for file in answer.json().get("files", [])]
    assert not [path for path in paths if path.startswith("/") or ".." in path.split("/") or "\0" in path]
