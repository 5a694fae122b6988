"""Names that want to be another's: encoded twice, moved after the check, or with a tag that switches the check off."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from keelway import Client
from tests.support.attempt import Attempt
from tests.support.raw import ask
from tests.support.registry import manifest, node, register, service_body, unique_bytes

HOSTILE = [
    *("../../../../etc", "..%2f..%2f..%2fetc", "%2e%2e", "%252e%252e", "%252e%252e%252fetc", "..%5c..", "..;", "."),
    *("/etc", "//etc", "%2fetc", "file:///etc", "ridge%00", "%00", "ridge%2f", "ridge%2f..", "..%2fridge", "ridge/.."),
    *("~", "%c0%ae%c0%ae", "%uff0e", "RIDGE", "ridge.", "ridge%20", "%20ridge", "ridge%0a", "rid%C9%A1e", "*", "%25"),
    *("ridge'--", "a" * 8000, "../" * 500, "%E2%80%AEridge", "ridge?x", "ridge;x", "con", "$HOME", "-1", "0x1"),
]
# `ridge`, `1` and `champion` with a letter or all of them encoded twice.
TWINS = ["%2572idge", "%25%37%32idge", "%2531", "%2563hampion", "%25%36%33hampion"]


@pytest.fixture(scope="module")
def w(api):
    """A workspace with a model of two versions and an alias."""
    w = f"/v1/workspaces/{api.workspace()}"
    for _ in range(2):
        register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    assert api.admin.put(f"{w}/models/ridge/aliases/champion", json={"version": 2}).status_code == 200
    return w


@pytest.mark.parametrize("place", ["models/{}", "models/ridge/versions/{}", "models/ridge/aliases/{}"])
def test_only_what_is_named_exactly_is_deleted(api, w, place):
    before = api.admin.get(f"{w}/model-versions").json()["items"]

    for payload in (*HOSTILE, *TWINS):
        status, body = ask(api, "DELETE", f"{w}/{place.format(payload)}")
        assert status in {307, 400, 404, 405, 414, 422}, (payload, status, body)

    assert api.admin.get(f"{w}/model-versions").json()["items"] == before
    assert api.admin.get(f"{w}/models/ridge/aliases/champion").json()["version"] == 2


@pytest.mark.parametrize("encoded", ["%72idge", "%72%69%64%67%65"])
def test_an_encoded_name_is_the_same_name_once(api, w, encoded):
    status, body = ask(api, "GET", f"{w}/models/{encoded}/versions/%31")

    assert status == 200
    assert b'"ridge:1"' in body


@pytest.mark.parametrize("name", ["%2572idge", "rid%67e%2e", "ridge%00", "%C5%99idge", "r%EF%BD%89dge", "RIDGE"])
def test_a_twin_is_refused_or_another_model(api, w, name):
    found, _ = ask(api, "GET", f"{w}/models/{name}/versions/latest")
    made = api.admin.post(f"{w}/models/{name}/versions", json={"files": manifest({"m.pkl": b"twin"})})

    assert found in {404, 422}
    assert made.status_code in {201, 422}
    if made.status_code == 201:  # `ridge.` and `RIDGE` are names of their own
        assert made.json()["version"] == 1
        assert made.json()["name"] != "ridge"
    assert api.admin.get(f"{w}/models/ridge/versions/latest").json()["version"] == 2


def test_a_service_keeps_the_version_that_its_alias_named(api):
    node(api)
    workspace = api.workspace()
    w = f"/v1/workspaces/{workspace}"
    body = service_body(api, workspace)  # registers ridge:1
    checked = api.admin.put(f"{w}/models/ridge/aliases/champion", json={"version": 1}).json()
    with Client(api.url, api.token("admin"), workspace=workspace) as client:
        named = client.models.get("ridge:champion")

        made = api.admin.post(f"{w}/services", json=body | {"models": [named.id]})
        register(api.admin, w, "ridge", {"model.pkl": unique_bytes()})
        moved = api.admin.put(f"{w}/models/ridge/aliases/champion", json={"version": 2}).json()
        service = client.services.get("ridge-svc")

    assert (made.status_code, checked["version"], moved["version"]) == (202, 1, 2)
    assert [revision.models for revision in service.revisions] == [["ridge:1"]]
    spec = Attempt(api, service.operation).claim["spec"]
    assert [model["digest"] for model in spec["replica"]["models"]] == [named.digest]
    refused = api.admin.delete(f"{w}/models/ridge/versions/1")
    assert (refused.status_code, refused.json()["used_by"]) == (409, ["services/ridge-svc"])


def test_latest_is_the_latest_of_the_moment_as_well(api):
    node(api)
    workspace = api.workspace()
    w = f"/v1/workspaces/{workspace}"
    assert api.admin.post(f"{w}/services", json=service_body(api, workspace)).status_code == 202

    register(api.admin, w, "ridge", {"model.pkl": unique_bytes()})

    (revision,) = api.admin.get(f"{w}/services/ridge-svc").json()["revisions"]
    assert revision["models"] == ["ridge:1"]


BROKEN = [
    {"files": [{"path": "../x", "size_bytes": 1, "sha256": "0" * 64}]},
    {"files": [{"path": "/etc/passwd", "size_bytes": 1, "sha256": "0" * 64}]},
    {"files": [{"path": "x", "size_bytes": 1, "sha256": "0" * 63}]},
    {"files": [{"path": "x", "size_bytes": -1, "sha256": "0" * 64}]},
    {"files": []},
    {"framework_version": "1"},
    {"datasets": [{"scenario": "training", "id": ""}]},
    {"resource_requirements": {"cpu": -1}},
    {"source": "file:///etc"},
]
# What made other registries look away, among whatever comes to mind.
KEYS = st.sampled_from(["mlflow.prompt.is_prompt", "skip_validation", "__class__", "files", "trusted"]) | st.text()
TAGS = st.dictionaries(KEYS, st.sampled_from(["true", "1", "../../etc"]) | st.text(), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(broken=st.sampled_from(BROKEN), tags=TAGS, properties=TAGS)
def test_no_tag_makes_an_invalid_field_valid(api, w, broken, tags, properties):
    body = {"files": manifest({"m.pkl": b"x"}), "tags": tags, "properties": properties} | broken

    response = api.admin.post(f"{w}/models/tagged/versions", json=body)

    assert response.status_code == 422
    assert response.json()["type"] == "/problems/invalid-request"
