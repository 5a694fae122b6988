"""Snapshots: one content, one name."""

from tests.support.objects import remove
from tests.support.problems import assert_problem
from tests.support.registry import manifest, open_version, send, sha256, snapshot, unique_bytes


def test_the_same_content_is_one_snapshot(api, w):
    files = {"score.py": unique_bytes(), "helpers/a.py": b"x"}
    first = snapshot(api.admin, w, files)

    again = api.admin.post(f"{w}/snapshots", json={"files": manifest(dict(reversed(files.items())))}).json()

    assert again["digest"] == first["digest"]
    assert again["state"] == "ready"
    assert again["missing"] == []


def test_another_path_is_another_snapshot(api, w):
    data = unique_bytes()

    assert snapshot(api.admin, w, {"a.py": data})["digest"] != snapshot(api.admin, w, {"b.py": data})["digest"]


def test_a_snapshot_may_have_many_top_level_entries(api, w):
    made = snapshot(api.admin, w, {"a.py": b"1", "b.py": b"2", "c/d.py": b"3"})

    assert [file["path"] for file in made["files"]] == ["a.py", "b.py", "c/d.py"]
    assert made["size_bytes"] == 3


def test_commit_names_the_files_that_are_missing(api, w):
    made = api.admin.post(f"{w}/snapshots", json={"files": manifest({"a.py": unique_bytes()})}).json()

    problem = assert_problem(api.admin.post(f"{w}/snapshots/{made['digest']}/commit"), "blobs-missing")

    assert problem["paths"] == ["a.py"]
    assert api.admin.get(f"{w}/snapshots/{made['digest']}").json()["state"] == "uploading"


def test_committing_twice_is_one_commit(api, w):
    made = snapshot(api.admin, w, {"a.py": unique_bytes()})

    again = api.admin.post(f"{w}/snapshots/{made['digest']}/commit")

    assert again.json() == made
    actions = [entry["action"] for entry in api.admin.get(f"{w}/audit").json()["items"]]
    assert actions == ["snapshot.commit", "snapshot.open", "workspace.create"]


def test_a_snapshot_of_another_workspace_is_not_found(api, w):
    made = snapshot(api.admin, w, {"a.py": unique_bytes()})

    assert_problem(api.admin.get(f"/v1/workspaces/{api.workspace()}/snapshots/{made['digest']}"), "not-found")


def test_models_and_snapshots_share_bytes(api, w):
    data = unique_bytes()
    snapshot(api.admin, w, {"a.py": data})

    assert open_version(api.admin, w, "m", {"m.pkl": data})["missing"] == []


def test_a_snapshot_that_somebody_else_began_is_finished_by_whoever_opens_it_again(api, workspace, w):
    files = {"score.py": unique_bytes()}
    body = {"files": manifest(files)}
    begun = api.as_role("contributor", workspace).post(f"{w}/snapshots", json=body).json()

    snapshot(api.admin, w, files)

    assert api.admin.get(f"{w}/snapshots/{begun['digest']}").json()["state"] == "ready"


def test_a_snapshot_whose_bytes_are_damaged_is_mended_by_uploading_it_again(api, w):
    files = {"score.py": unique_bytes(), "other.py": unique_bytes()}
    made = snapshot(api.admin, w, files)
    remove(api.stack.s3, sha256(files["score.py"]))
    api.sql("UPDATE blobs SET verified_at = now() - interval '1 year' WHERE sha256 = %s", sha256(files["score.py"]))
    told = api.admin.post("/v1/scrub").json()["damaged"]

    again = api.admin.post(f"{w}/snapshots", json={"files": manifest(files)}).json()
    send(api.admin, again, files)

    name = f"{w.rsplit('/', 1)[1]}/snapshot {made['digest'][:12]} score.py"
    assert [blob["used_by"] for blob in told if blob["sha256"] == sha256(files["score.py"])] == [[name]]
    assert [missing["path"] for missing in again["missing"]] == ["score.py"]
    assert api.admin.post(f"{w}/snapshots/{made['digest']}/commit").json()["state"] == "ready"
