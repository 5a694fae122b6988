"""A version in one request, as curl sends it."""

import contextlib
import http.client
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.problems import assert_problem
from tests.support.registry import register, unique_bytes


def upload(api, w, files, about=None, name="formed"):
    data = {} if about is None else {"about": about if isinstance(about, str) else json.dumps(about)}
    parts = [("file", (path, content)) for path, content in files]
    return api.admin.post(f"{w}/models/{name}/versions:upload", files=parts, data=data)


def test_files_become_a_ready_version(api, w):
    files = [("m/a.bin", unique_bytes()), ("m/b/c.bin", b""), ("m/d.bin", bytes(3 * 2**20))]

    answer = upload(api, w, files, {"tags": {"stage": "test"}, "framework": "Onnx"})

    made = answer.json()
    assert (answer.status_code, made["state"], made["id"]) == (201, "ready", "formed:1")
    assert (made["tags"], made["framework"]) == ({"stage": "test"}, "Onnx")
    for path, content in files:
        assert api.admin.get(f"{w}/models/formed/versions/1/files/{path}").content == content


def test_curl_does(api, w, tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"a model")
    command = ["curl", "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {api.token('admin')}"]
    form = ["-F", f"file=@{tmp_path}/model.pkl", "-F", 'about={"description": "by curl"}']

    done = subprocess.run(
        [*command, *form, f"{api.url}{w}/models/curled/versions:upload"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["description"] == "by curl"
    assert api.admin.get(f"{w}/models/curled/versions/latest/files/model.pkl").content == b"a model"


def test_bytes_that_are_there_already_are_kept_once(api, w):
    data = unique_bytes()
    register(api.admin, w, "ridge", {"m.pkl": data})

    assert upload(api, w, [("m.pkl", data)]).json()["digest"] == upload(api, w, [("m.pkl", data)]).json()["digest"]


def test_forms_with_the_same_bytes_at_once_all_become_versions(api, w):
    data = bytes(2**20) + unique_bytes()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: upload(api, w, [("m.bin", data)]), range(6)))

    assert [answer.status_code for answer in answers] == [201] * 6
    assert sorted(answer.json()["version"] for answer in answers) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "a\\..\\b", "x\u202e", "a//b", ".", "x" * 1025])
def test_a_name_that_leads_elsewhere_is_refused(api, w, path):
    assert_problem(upload(api, w, [(path, b"x")]), "invalid-request")
    assert api.admin.get(f"{w}/models").json()["items"] == []


@pytest.mark.parametrize(
    ("files", "about"),
    [
        ([], None),
        ([("a", b"1"), ("a", b"2")], None),
        ([("a", b"1"), ("b", b"2")], None),
        ([("a", b"1")], "{nope"),
        ([("a", b"1")], {"state": "ready"}),
        ([("a", b"1")], {"files": []}),
        ([("a", b"1")], {"framework_version": "1"}),
        ([("a", b"1")], "[]"),
    ],
)
def test_a_form_that_makes_no_version_is_refused(api, w, files, about):
    answer = upload(api, w, files, about)

    problem = assert_problem(answer, "invalid-request")
    assert problem["errors"][0]["path"].startswith("body")
    assert api.admin.get(f"{w}/models").json()["items"] == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n1',
        ),
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary at all"),
        ("application/x-www-form-urlencoded", b"file=1"),
        ("application/json", b"{}"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 100 + b"\r\n1\r\n--x--\r\n"),
    ],
)
def test_a_body_that_is_no_form_is_refused(api, w, content_type, body):
    answer = api.admin.post(f"{w}/models/formed/versions:upload", content=body, headers={"Content-Type": content_type})

    assert_problem(answer, "invalid-request")


def test_a_form_of_too_many_files_or_fields_is_refused(api, w):
    assert_problem(upload(api, w, [(f"m/{n}", b"") for n in range(1001)]), "invalid-request")
    fields = {f"k{n}": "v" for n in range(20)}
    answer = api.admin.post(f"{w}/models/formed/versions:upload", files=[("file", ("a", b"1"))], data=fields)
    assert_problem(answer, "invalid-request")


def test_an_announced_form_that_is_too_large_is_refused_before_it_is_read(api, w):
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("POST", f"{w}/models/formed/versions:upload")
        connection.putheader("Authorization", f"Bearer {api.token('admin')}")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(2**31))
        connection.endheaders()
        answer = connection.getresponse()

        assert (answer.status, json.loads(answer.read())["type"]) == (413, "/problems/too-large")
