"""One entry for each accepted change, and none for what was refused."""

import pytest

from tests.support.problems import assert_problem
from tests.support.registry import build, manifest, register, service, service_body, snapshot


def actions(api, w):
    return [entry["action"] for entry in api.admin.get(f"{w}/audit", params={"limit": 200}).json()["items"]][::-1]


def test_every_accepted_change_has_one_entry(api, workspace, w):
    register(api.admin, w, "ridge", {"m.pkl": b"x"})
    snapshot(api.admin, w, {"a.py": b"y"})
    operation = build(api, workspace)
    api.admin.post(f"/v1/operations/{operation}/cancel")
    api.admin.delete(f"{w}/services/{service(api, workspace)['name']}")

    assert actions(api, w) == [
        *("workspace.create", "model.version.open", "model.version.commit", "operation.inspect"),
        *("snapshot.open", "snapshot.commit"),
        *("operation.build", "operation.cancel"),
        *("model.version.open", "model.version.commit", "operation.inspect", "snapshot.open", "snapshot.commit"),
        *("operation.deploy", "operation.delete"),
    ]


def test_an_entry_says_who_what_and_in_which_request(api, workspace, w):
    http = api.client(api.new_token("contributor", workspace, name="carol")["secret"])

    response = http.post(f"{w}/models/ridge/versions", json={"files": manifest({"m": b"x"})})

    entry = api.admin.get(f"{w}/audit").json()["items"][0]
    assert (entry["actor"], entry["action"], entry["subject"]) == (
        "carol",
        "model.version.open",
        "models/ridge/versions/1",
    )
    assert entry["request_id"] == response.headers["x-request-id"]
    assert entry["workspace"] == workspace


@pytest.mark.parametrize("name", ["evil\r\nname", 'x","actor":"admin', "\x1b[31m"])
def test_a_name_cannot_forge_an_entry_or_a_log_line(api, workspace, w, name):
    since = api.log.stat().st_size
    http = api.client(api.new_token("contributor", workspace, name=name)["secret"])

    http.post(f"{w}/models/ridge/versions", json={"files": manifest({"m": b"x"})})

    assert api.admin.get(f"{w}/audit").json()["items"][0]["actor"] == name
    text = api.log.read_bytes()[since:].decode()
    assert "\x1b" not in text
    assert len(api.log_lines(since=since)) == len(text.splitlines())


def test_what_was_refused_has_no_entry(api, workspace, w):
    api.admin.post(f"{w}/models/ridge/versions", json={"files": []})
    api.as_role("reader", workspace).post(f"{w}/models/ridge/versions", json={"files": manifest({"m": b"x"})})
    api.admin.post(f"{w}/services", json=service_body(api, workspace, models=["none:1"]))

    begun = {action for action in actions(api, w) if action.startswith(("operation", "service"))}
    assert begun == {"operation.inspect"}


def test_tokens_made_and_revoked_are_recorded(api):
    token = api.new_token("reader")
    api.admin.delete(f"/v1/tokens/{token['id']}")

    entries = api.admin.get("/v1/audit", params={"limit": 2}).json()["items"]
    assert [(entry["action"], entry["subject"], entry["workspace"]) for entry in entries] == [
        ("token.revoke", f"tokens/{token['id']}", None),
        ("token.create", f"tokens/{token['id']}", None),
    ]


def test_the_whole_log_names_the_workspace_of_each_entry(api):
    made = [api.workspace() for _ in range(3)]

    entries = api.admin.get("/v1/audit", params={"limit": 3}).json()["items"]

    assert [entry["workspace"] for entry in entries] == made[::-1]


def test_who_is_admin_of_a_workspace_sees_its_log_and_no_other(api, workspace):
    api.workspace()
    http = api.as_role("admin", workspace)

    assert {entry["workspace"] for entry in http.get(f"/v1/workspaces/{workspace}/audit").json()["items"]} == {
        workspace
    }
    assert_problem(http.get("/v1/audit"), "forbidden")
