"""Lists by cursor: complete, stable while rows are added, and proof against tokens that others made up."""

import base64
import json

import pytest

from tests.support.problems import assert_problem, paths_of
from tests.support.registry import build, environment, open_version, service
from tests.support.runs import run


def walk(http, path, **params):
    """All items of a list, page after page; `between` is called after the first."""
    between = params.pop("between", lambda: None)
    items = []
    while True:
        response = http.get(path, params=params)
        assert response.status_code == 200, response.text
        items += response.json()["items"]
        token = response.json()["next_page_token"]
        if token is None:
            return items
        if "page_token" not in params:
            between()
        params["page_token"] = token


def test_models_come_newest_first_and_once_each_while_more_are_registered(api, w):
    for number in range(5):
        open_version(api.admin, w, f"m{number}", {"m.pkl": b"x"})

    seen = walk(api.admin, f"{w}/models", limit=2, between=lambda: open_version(api.admin, w, "new", {"m.pkl": b"x"}))

    assert [model["name"] for model in seen] == ["m4", "m3", "m2", "m1", "m0"]


def test_versions_come_newest_first_and_once_each_while_more_are_registered(api, w):
    for _ in range(5):
        open_version(api.admin, w, "m", {"m.pkl": b"x"})

    seen = walk(
        api.admin, f"{w}/models/m/versions", limit=2, between=lambda: open_version(api.admin, w, "m", {"m.pkl": b"x"})
    )

    assert [version["version"] for version in seen] == [5, 4, 3, 2, 1]


def test_audit_entries_are_paged(api, w):
    for _ in range(4):
        open_version(api.admin, w, "m", {"m.pkl": b"x"})

    seen = walk(api.admin, f"{w}/audit", limit=2)

    assert [entry["action"] for entry in seen] == ["model.version.open"] * 4 + ["workspace.create"]
    assert [entry for entry in walk(api.admin, "/v1/audit", limit=3) if entry["id"] >= seen[-1]["id"]] == seen


def test_workspaces_are_paged(api):
    made = sorted(api.workspace() for _ in range(3))

    seen = [workspace["name"] for workspace in walk(api.admin, "/v1/workspaces", limit=2)]

    assert seen == sorted(seen)
    assert set(made) < set(seen)


def test_operations_are_paged(api, workspace):
    made = [build(api, workspace) for _ in range(3)]

    seen = walk(api.admin, "/v1/operations", limit=2, workspace=workspace)

    assert [operation["id"] for operation in seen] == made[::-1]


def test_environments_are_paged(api, workspace, w):
    for name in ("b", "a", "c"):
        environment(api, workspace, name)

    found = [found["name"] for found in walk(api.admin, f"{w}/environments", limit=2)]
    assert found == ["Keelway-Minimal", "Keelway-Sklearn", "a", "b", "c"]
    assert [found["version"] for found in walk(api.admin, f"{w}/environments/a/versions", limit=1)] == [1]


def test_services_are_paged(api, workspace, w):
    for name in ("svc-b", "svc-a", "svc-c"):
        service(api, workspace, name=name)

    assert [found["name"] for found in walk(api.admin, f"{w}/services", limit=2)] == ["svc-a", "svc-b", "svc-c"]


def names(http, path, **params):
    return [found["name"] for found in walk(http, path, **params)]


def test_lists_can_be_asked_for_one_name(api, workspace, w):
    for name in ("ridge-a", "ridge-ab"):
        open_version(api.admin, w, name, {"m.pkl": b"x"})
        environment(api, workspace, name)
        service(api, workspace, name=name)

    for path in ("models", "environments", "services"):
        assert names(api.admin, f"{w}/{path}", name="ridge-a") == ["ridge-a"]
        assert names(api.admin, f"{w}/{path}", name="rid") == []
        assert names(api.admin, f"/v1/workspaces/{api.workspace()}/{path}", name="ridge-a") == []


@pytest.mark.parametrize("path", ["models", "environments", "services"])
def test_a_filter_that_no_name_can_match_is_refused(api, w, path):
    response = api.admin.get(f"{w}/{path}", params={"name": "no name"})

    assert paths_of(assert_problem(response, "invalid-request")) == ["query.name"]


def made_up(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TOKENS = [
    "x",
    "!",
    "é",
    "%00",
    "a" * 3000,
    made_up({}),
    made_up(1),
    made_up([]),
    made_up([None]),
    made_up([1.5]),
    made_up([True]),
    made_up([10**30]),
    made_up([2**40]),
    made_up([2**63]),
    made_up(["x"]),
    made_up(["x", "y"]),
    made_up(["2026-01-01", "y"]),
    made_up(["a\0b"]),
    made_up(["a\0b", "c\0d"]),
    made_up(["' OR 1=1 --", "' OR 1=1 --"]),
    made_up([[1]]),
    base64.urlsafe_b64encode(b"[" * 1400).decode(),
    base64.urlsafe_b64encode(b"\xff\xfe").decode(),
]
LISTS = [
    "/v1/operations",
    "/v1/workspaces",
    "/v1/audit",
    "models",
    "models/m/versions",
    "audit",
    "environments",
    "services",
    "experiments",
    "experiments/exp/runs",
    "experiments/exp/runs/r1/metrics",
]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:16])
def test_a_page_token_that_this_list_did_not_make_is_refused(api, w, path, token):
    open_version(api.admin, w, "m", {"m.pkl": b"x"})
    run(api.admin, w, id="r1")
    address = path if path.startswith("/") else f"{w}/{path}"

    response = api.admin.get(address, params={"page_token": token})

    if path.endswith("metrics") and token == made_up([2**40]):
        assert response.json()["items"] == []
        return
    if response.status_code == 200:  # a text is a fine place to begin in a list by name
        assert path in {"/v1/workspaces", "environments", "services", "experiments"}
        return
    assert paths_of(assert_problem(response, "invalid-request")) == ["query.page_token"]


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1000000000", "x", "1.5", ""])
def test_a_limit_out_of_range_is_refused(api, w, limit):
    response = api.admin.get(f"{w}/models", params={"limit": limit})

    assert paths_of(assert_problem(response, "invalid-request")) == ["query.limit"]
