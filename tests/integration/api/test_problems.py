"""Refusals: each is a problem document that says what to do."""

import uuid

import pytest

from keelway.contracts.problems import PROBLEMS
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import manifest, sha256

JSON = {"Content-Type": "application/json"}


def chunks(data, count):
    for _ in range(count):
        yield data


@pytest.mark.parametrize("text", [b"{", b"", b"[1,", b"{'a': 1}", b'{"name": "a"} x', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_refused(api, text):
    response = api.admin.post("/v1/workspaces", content=text, headers=JSON)

    assert paths_of(assert_problem(response, "invalid-request")) == ["body"]


@pytest.mark.parametrize("text", [b"null", b"1", b'"x"', b"[]", b"true", b"NaN"])
def test_json_that_is_no_object_is_refused(api, text):
    response = api.admin.post("/v1/workspaces", content=text, headers=JSON)

    assert paths_of(assert_problem(response, "invalid-request")) == ["body"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "body.name"),
        ({"name": "abc", "nmae": 1}, "body.nmae"),
        ({"name": 1}, "body.name"),
        ({"name": None}, "body.name"),
        ({"name": ["a"]}, "body.name"),
        ({"name": "ABC"}, "body.name"),
        ({"name": ""}, "body.name"),
        ({"name": "a" * 256}, "body.name"),
        ({"name": "abc\n"}, "body.name"),
        ({"name": "abc", "description": "x" * 16385}, "body.description"),
        ({"name": "abc", "description": 1}, "body.description"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_that_is_wrong_is_named_by_its_path(api, body, path):
    assert paths_of(assert_problem(api.admin.post("/v1/workspaces", json=body), "invalid-request")) == [path]


@pytest.mark.parametrize("field", ["id", "role", "is_admin", "workspace_id", "state", "created_by", "version"])
def test_fields_that_are_not_the_caller_s_to_set_are_refused(api, w, field):
    files = {"files": manifest({"m": b"x"})}
    bodies = {
        "/v1/workspaces": {"name": f"w-{uuid.uuid4().hex[:8]}"},
        "/v1/tokens": {"name": "x", "grants": [{"role": "reader"}]},
        f"{w}/models/m/versions": files,
        f"{w}/snapshots": files,
        f"{w}/environments/e/versions": {"pip_requirements": "six"},
    }
    for path, body in bodies.items():
        response = api.admin.post(path, json={**body, field: "x"})

        assert paths_of(assert_problem(response, "invalid-request")) == [f"body.{field}"]


@pytest.mark.parametrize("text", ["a\\u0000b", "\\u0000"])
def test_text_with_nul_is_refused(api, w, text):
    body = '{"files": [{"path": "m", "size_bytes": 1, "sha256": "%s"}], "%s": %s}'
    for field, value in (("description", f'"{text}"'), ("tags", f'{{"k": "{text}"}}'), ("tags", f'{{"{text}": "v"}}')):
        response = api.admin.post(f"{w}/models/m/versions", content=body % ("0" * 64, field, value), headers=JSON)

        assert_problem(response, "invalid-request")


NUL_PATHS = ["/v1/workspaces/%00/models", "/v1/operations?subject=%00", "/v1/operations?workspace=%00"]


@pytest.mark.parametrize("path", NUL_PATHS)
def test_a_path_or_query_with_nul_is_refused(api, path):
    assert api.admin.get(path).status_code in {404, 422}


def test_an_unknown_path_is_not_found(api):
    problem = assert_problem(api.admin.get("/v1/nothing/here"), "not-found")

    assert problem["instance"] == "/v1/nothing/here"


def test_a_method_that_a_path_does_not_have_is_named_with_those_it_has(api, w):
    response = api.admin.delete(f"{w}/models/m/versions")

    problem = assert_problem(response, "method-not-allowed")
    assert (problem["detail"], problem["allowed"]) == ("This path takes GET, POST, not DELETE.", ["GET", "POST"])
    assert {method.strip() for method in response.headers["allow"].split(",")} == {"GET", "POST"}


def test_a_body_that_says_it_is_too_large_is_refused(api):
    response = api.admin.post("/v1/workspaces", content=b"x" * (2**20 + 1), headers=JSON)

    assert assert_problem(response, "too-large")["limit_bytes"] == 2**20


def test_a_body_that_turns_out_too_large_is_refused(api):
    response = api.admin.post("/v1/workspaces", content=chunks(b"x" * 2**16, 20), headers=JSON)

    assert assert_problem(response, "too-large")["limit_bytes"] == 2**20


def test_a_large_manifest_is_taken(api, w):
    files = [{"path": f"m/{n:06}" + "x" * 60, "size_bytes": n, "sha256": f"{n:064x}"} for n in range(10_000)]

    response = api.admin.post(f"{w}/models/m/versions", json={"files": files})

    assert response.status_code == 201
    assert len(response.json()["missing"]) == 10_000


@pytest.mark.parametrize("given", ["my-id-1", "a" * 100])
def test_the_caller_s_request_id_is_echoed(api, given):
    for http in (api.admin, api.nobody):
        response = http.get("/v1/nothing", headers={"X-Request-ID": given})

        assert response.headers["x-request-id"] == given
        assert response.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 101, "<script>", "é".encode()])
def test_a_request_id_that_could_harm_a_log_is_replaced(api, given):
    response = api.admin.get("/v1/whoami", headers={"X-Request-ID": given})

    assert uuid.UUID(response.headers["x-request-id"])


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_has_a_page(api, name):
    page = api.nobody.get(f"/problems/{name}").json()

    assert page == {
        "type": f"/problems/{name}",
        "status": PROBLEMS[name].status,
        "title": PROBLEMS[name].title,
        "explanation": PROBLEMS[name].explanation,
    }


def test_the_list_of_problems_is_complete(api):
    items = api.nobody.get("/problems").json()["items"]

    assert [item["type"] for item in items] == [f"/problems/{name}" for name in PROBLEMS]
    assert_problem(api.nobody.get("/problems/no-such-problem"), "not-found")


def test_our_own_mistakes_tell_nothing_but_an_id(api, w):
    api.sql("ALTER TABLE events RENAME COLUMN payload TO payload_secret_name")
    since = api.log.stat().st_size
    try:
        files = [{"path": "m", "size_bytes": 0, "sha256": sha256(b"")}]
        upload = api.admin.post(f"{w}/models/m/versions", json={"files": files}).json()
        for missing in upload["missing"]:
            api.admin.put(missing["upload_url"], content=b"")
        response = api.admin.post(f"{w}/models/m/versions/1/commit")
    finally:
        api.sql("ALTER TABLE events RENAME COLUMN payload_secret_name TO payload")

    document = assert_problem(response, "internal-error")
    assert set(document) == {"type", "title", "status", "detail", "instance", "request_id"}
    for leak in ("payload", "events", "sql", "psycopg", "Traceback", "keelway_api", ".py"):
        assert leak.lower() not in response.text.lower()
    logged = [line for line in api.log_lines(since=since) if line["event"] == "internal error"]
    assert [line["request_id"] for line in logged] == [document["request_id"]]
    assert "UndefinedColumn" in logged[0]["exception"]
    assert api.admin.get(f"{w}/models/m/versions/1").json()["state"] == "uploading"
