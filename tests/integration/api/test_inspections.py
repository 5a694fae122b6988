"""Labels of versions, as a worker's findings make them; the tests play the worker."""

from __future__ import annotations

import pytest

from keelway.contracts.safety import INSPECTOR
from tests.support.api import wait_until
from tests.support.attempt import Attempt
from tests.support.problems import assert_problem
from tests.support.registry import open_version, register, send, service_body, unique_bytes

DANGER = {"severity": "danger", "code": "dangerous-import", "detail": "os.system"}
WARNING = {"severity": "warning", "code": "unfamiliar-import", "detail": "mine.Model"}


def inspection(api, workspace, version):
    """The operation that is to look at a version; None when there is none open."""
    subject = f"models/{version['name']}/versions/{version['version']}"
    params = {"workspace": workspace, "subject": subject, "state": ["queued", "running"]}
    items = api.admin.get("/v1/operations", params=params).json()["items"]
    assert len(items) <= 1
    return items[0]["id"] if items else None


def hand_in(attempt, kinds, *, findings=(), inspector=INSPECTOR, epoch=None):
    """Say what the blobs of the spec are, in their order."""
    blobs = attempt.claim["spec"]["blobs"]
    items = [
        {"sha256": blob["sha256"], "kind": kind, "findings": list(findings)}
        for blob, kind in zip(blobs, kinds, strict=True)
    ]
    body = {"epoch": epoch or attempt.epoch, "inspector": inspector, "items": items}
    return attempt.api.worker.post(f"/v1/operations/{attempt.id}/inspections", json=body)


def look(api, workspace, version, *kinds, findings=()):
    """A whole inspection, as a worker carries it out."""
    attempt = Attempt(api, inspection(api, workspace, version))
    assert hand_in(attempt, kinds, findings=findings).status_code == 204
    attempt.end(result={"inspected": len(kinds)})


def shown(api, w, version):
    return api.admin.get(f"{w}/models/{version['name']}/versions/{version['version']}").json()


def waiting(api, version_id):
    return api.sql("SELECT tries, next_at - now() AS due FROM version_inspections WHERE version_id = %s", version_id)


def row_id(api, workspace, version):
    query = (
        "SELECT v.id FROM model_versions v JOIN workspaces w ON w.id = workspace_id WHERE w.name = %s AND v.name = %s"
    )
    return api.sql(query, workspace, version["name"])[0]["id"]


def test_a_version_is_ready_before_anybody_looked_and_has_its_label_after(api, w, workspace):
    version = register(api.admin, w, "ridge", {"m.safetensors": unique_bytes()})
    assert (version["state"], version["safety"]) == ("ready", None)

    look(api, workspace, version, "safetensors")

    safety = shown(api, w, version)["safety"]
    assert (safety["label"], safety["kinds"], safety["findings"]) == ("inert", {"safetensors": 1}, [])
    assert safety["inspector"] == INSPECTOR
    assert shown(api, w, version)["etag"] == version["etag"]
    events = "SELECT payload FROM events WHERE name = 'model.inspected' AND payload->>'name' = 'ridge' ORDER BY id DESC"
    assert api.sql(events)[0]["payload"]["label"] == "inert"
    actions = [entry["action"] for entry in api.admin.get(f"{w}/audit").json()["items"]]
    assert "model.version.inspect" in actions


def test_the_same_bytes_again_have_their_label_at_once(api, w, workspace):
    files = {"m.pkl": unique_bytes()}
    look(api, workspace, register(api.admin, w, "first", files), "pickle", findings=[DANGER])

    again = register(api.admin, w, "second", files)

    assert again["safety"]["label"] == "executable"
    assert [finding["code"] for finding in again["safety"]["findings"]] == ["dangerous-import"]
    assert inspection(api, workspace, again) is None


def test_only_blobs_that_nobody_looked_at_are_looked_at(api, w, workspace):
    known, new = unique_bytes(), unique_bytes()
    look(api, workspace, register(api.admin, w, "first", {"a.json": known}), "json")
    version = register(api.admin, w, "second", {"m/a.json": known, "m/b.pkl": new})

    attempt = Attempt(api, inspection(api, workspace, version))

    assert [blob["size_bytes"] for blob in attempt.claim["spec"]["blobs"]] == [len(new)]


def test_lists_show_the_label_without_findings_and_filter_by_it(api, w, workspace):
    bad = register(api.admin, w, "bad", {"m.pkl": unique_bytes()})
    good = register(api.admin, w, "good", {"m.onnx": unique_bytes()})
    register(api.admin, w, "new", {"m.pkl": unique_bytes()})
    look(api, workspace, bad, "pickle", findings=[DANGER, WARNING])
    look(api, workspace, good, "onnx")

    def names(**params):
        items = api.admin.get(f"{w}/model-versions", params=params).json()["items"]
        return {item["name"]: item["safety"] for item in items}

    everything = names()
    assert everything["new"] is None
    assert everything["bad"]["findings_by_severity"] == {"danger": 1, "warning": 1}
    assert everything["bad"]["findings"] == []
    assert set(names(safety="inert")) == {"good"}
    assert set(names(safety="executable")) == {"bad"}
    assert set(names(safety="not-inspected")) == {"new"}
    models = api.admin.get(f"{w}/models", params={"safety": "inert"}).json()["items"]
    assert [model["latest"]["safety"]["label"] for model in models] == ["inert"]


@pytest.fixture
def room(api):
    """No other test's inspections, which nobody carries out, are open: with too many of them none is begun again."""
    api.sql("UPDATE operations SET state = 'cancelled', ended_at = now() WHERE kind = 'inspect' AND ended_at IS NULL")


@pytest.mark.usefixtures("room")
def test_an_inspection_that_failed_is_begun_again_a_bounded_number_of_times(api, w, workspace):
    version = register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    version_id = row_id(api, workspace, version)

    for tries in range(1, 6):
        attempt = Attempt(api, inspection(api, workspace, version))
        attempt.end("failed", error={"code": "not-found", "message": "no"})
        (row,) = waiting(api, version_id)
        assert row["tries"] == tries
        assert (row["due"] is None) == (tries == 5)
        if tries < 5:
            api.sql("UPDATE version_inspections SET next_at = now() WHERE version_id = %s", version_id)
            wait_until(lambda: inspection(api, workspace, version), "another inspection is begun")

    assert inspection(api, workspace, version) is None
    assert shown(api, w, version)["safety"] is None


def test_one_that_was_cancelled_before_a_worker_came_counts_as_no_try(api, w, workspace):
    version = register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    response = api.admin.post(f"/v1/operations/{inspection(api, workspace, version)}/cancel")

    assert response.status_code == 202
    (row,) = waiting(api, row_id(api, workspace, version))
    assert row["tries"] == 0
    assert row["due"] is not None


def test_people_may_ask_for_another_and_get_the_one_under_way(api, w, workspace):
    version = register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    path = f"{w}/models/ridge/versions/1/inspect"
    look(api, workspace, version, "pickle")

    first = api.admin.post(path)
    second = api.admin.post(path)

    assert first.status_code == 202
    assert first.headers["Location"] == f"/v1/operations/{first.json()['id']}"
    assert second.json()["id"] == first.json()["id"]
    look(api, workspace, version)  # nothing is left to look at: the label is made anew
    assert shown(api, w, version)["safety"]["label"] == "executable"


def test_a_version_that_is_not_ready_is_not_inspected(api, w):
    open_version(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    assert_problem(api.admin.post(f"{w}/models/ridge/versions/1/inspect"), "wrong-state")


def test_a_version_deleted_meanwhile_stops_nobody(api, w, workspace):
    version = register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    operation = inspection(api, workspace, version)
    assert api.admin.delete(f"{w}/models/ridge/versions/1").status_code == 204

    attempt = Attempt(api, operation)

    assert attempt.claim["spec"]["blobs"] == []
    assert attempt.end(result={"inspected": 0})["state"] == "succeeded"


def test_findings_of_an_old_attempt_or_another_inspector_are_refused(api, w, workspace):
    version = register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})
    attempt = Attempt(api, inspection(api, workspace, version))

    assert_problem(hand_in(attempt, ["pickle"], epoch=7), "stale-attempt")
    assert_problem(hand_in(attempt, ["pickle"], inspector="keelway-0"), "wrong-state")
    assert_problem(hand_in(attempt, ["Not A Kind"]), "invalid-request")


def test_success_without_findings_is_no_label(api, w, workspace):
    version = register(api.admin, w, "ridge", {"m.pkl": unique_bytes()})

    Attempt(api, inspection(api, workspace, version)).end(result={"inspected": 0})

    assert shown(api, w, version)["safety"] is None
    assert waiting(api, row_id(api, workspace, version))[0]["tries"] == 1


def set_policy(api, w, refused):
    response = api.admin.patch(w, json={"policies": {"refuse_findings": refused}})
    assert response.status_code == 200, response.text
    return response.json()


def deploy(api, w, body):
    return api.admin.post(f"{w}/services", json=body)


def test_without_a_policy_nothing_depends_on_labels(api, w, workspace):
    body = service_body(api, workspace)
    look(api, workspace, {"name": "ridge", "version": 1}, "pickle", findings=[DANGER])

    assert deploy(api, w, body).status_code == 202


def test_a_policy_refuses_what_nobody_looked_at_and_what_was_found(api, w, workspace):
    body = service_body(api, workspace)
    assert set_policy(api, w, "danger")["policies"] == {"refuse_findings": "danger"}

    assert_problem(deploy(api, w, body), "not-inspected")
    look(api, workspace, {"name": "ridge", "version": 1}, "pickle", findings=[WARNING, DANGER])
    refused = deploy(api, w, body)

    assert_problem(refused, "unsafe-model")
    assert [finding["code"] for finding in refused.json()["findings"]] == ["dangerous-import"]
    assert "os.system" in refused.json()["detail"]


@pytest.mark.parametrize(("refused", "status"), [("danger", 202), ("warning", 409)])
def test_a_policy_says_from_which_severity_on(api, w, workspace, refused, status):
    body = service_body(api, workspace)
    look(api, workspace, {"name": "ridge", "version": 1}, "pickle", findings=[WARNING])
    set_policy(api, w, refused)

    assert deploy(api, w, body).status_code == status


def test_who_may_change_a_policy_and_what_is_written_down(api, w, workspace):
    assert_problem(api.as_role("deployer", workspace).patch(w, json={}), "forbidden")
    assert_problem(api.admin.patch(w, json={"policies": {"refuse_findings": "all"}}), "invalid-request")

    set_policy(api, w, "warning")
    set_policy(api, w, "warning")

    assert api.admin.get(w).json()["policies"] == {"refuse_findings": "warning"}
    entries = [entry for entry in api.admin.get(f"{w}/audit").json()["items"] if entry["action"] == "workspace.update"]
    assert [entry["detail"]["refuse_findings"] for entry in entries] == ["warning"]


@pytest.mark.usefixtures("room")
def test_a_version_of_many_files_is_looked_at_in_several_operations(api, w, workspace):
    files = {f"m/{number:04}.json": str(number).encode() + unique_bytes() for number in range(3)}
    upload = open_version(api.admin, w, "many", files)
    send(api.admin, upload, files)
    version = api.admin.post(f"{w}/models/many/versions/1/commit").json()
    attempt = Attempt(api, inspection(api, workspace, version))
    some = {**attempt.claim, "spec": {"blobs": attempt.claim["spec"]["blobs"][:2]}}
    attempt.claim = some
    hand_in(attempt, ["json", "json"])

    attempt.end(result={"inspected": 2})

    wait_until(lambda: inspection(api, workspace, version), "another inspection is begun")
    look(api, workspace, version, "json")
    assert shown(api, w, version)["safety"]["label"] == "inert"
