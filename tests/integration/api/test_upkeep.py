"""Garbage collection and scrubbing: what nobody needs goes, what anybody needs stays, damage is told and mended."""

import contextlib
import threading
import uuid

import httpx2
import pytest

from keelway.resources.base import SLOW_ANSWER_S
from keelway_api.blobs.scrub import AGAIN_S
from keelway_api.manifests.service import EXPIRED_AT_ONCE
from tests.support.api import wait_until
from tests.support.objects import keys_of, remove, write
from tests.support.problems import assert_problem
from tests.support.registry import manifest, open_version, register, send, sha256, snapshot, unique_bytes
from tests.support.runs import outputs, run
from tests.support.stack import until


def gc(api, **params):
    response = api.admin.post("/v1/gc", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def scrub(api):
    """All of it, round after round; the damaged blobs by digest."""
    damaged, params = {}, {}
    while True:
        response = api.admin.post("/v1/scrub", params=params, timeout=SLOW_ANSWER_S)
        assert response.status_code == 200, response.text
        report = response.json()
        damaged |= {blob["sha256"]: blob for blob in report["damaged"]}
        if report["remaining_blobs"] == 0:
            return damaged
        params = {"since": report["since"]}


def forsake(api, w, name):
    """Nothing refers to the model's bytes any more."""
    assert api.admin.delete(f"{w}/models/{name}").status_code == 204


@pytest.fixture
def garbage(api, w):
    """The digest of bytes that nothing refers to."""
    data = unique_bytes()
    register(api.admin, w, "old", {"m.pkl": data})
    forsake(api, w, "old")
    return sha256(data)


def test_bytes_without_a_reference_go_after_the_grace_period(api, garbage):
    first = gc(api, grace_s=3600)
    assert keys_of(api.stack.s3, garbage)

    second = gc(api, grace_s=0)

    assert first["unreferenced_blobs"] >= 1
    assert (first["deleted_blobs"], second["is_complete"]) == (0, True)
    assert second["deleted_blobs"] >= 1
    assert second["deleted_bytes"] >= 16
    assert keys_of(api.stack.s3, garbage) == []
    assert api.worker.get(f"/v1/blobs/{garbage}").status_code == 404


def test_a_dry_run_counts_and_deletes_nothing(api, garbage):
    gc(api, grace_s=3600)  # condemns

    told = gc(api, grace_s=0, dry_run=True)

    assert told["is_dry_run"]
    assert told["deleted_blobs"] >= 1
    assert keys_of(api.stack.s3, garbage)


def test_bytes_in_use_stay_whatever_the_grace_period(api, w):
    data = unique_bytes()
    register(api.admin, w, "kept", {"m.pkl": data})

    for _ in range(3):
        gc(api, grace_s=0)

    assert api.admin.get(f"{w}/models/kept/versions/1/files/m.pkl").content == data


def test_condemned_bytes_that_are_used_again_stay(api, w):
    data = unique_bytes()
    register(api.admin, w, "old", {"m.pkl": data})
    open_version(api.admin, w, "again", {"m.pkl": data})
    assert api.admin.delete(f"{w}/models/old").status_code == 204

    gc(api, grace_s=0)

    assert api.admin.post(f"{w}/models/again/versions/1/commit").status_code == 200
    assert api.admin.get(f"{w}/models/again/versions/1/files/m.pkl").content == data


def test_bytes_that_come_back_while_they_are_collected_are_never_lost(api, w):
    data = unique_bytes()
    digest = sha256(data)
    register(api.admin, w, "first", {"m.pkl": data})
    stop = threading.Event()

    def collect():
        while not stop.is_set():
            gc(api, grace_s=0)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        forsake(api, w, "first")
        for number in range(15):
            register(api.admin, w, f"m{number}", {"m.pkl": data})
            assert api.admin.get(f"{w}/models/m{number}/versions/1/files/m.pkl").content == data
            forsake(api, w, f"m{number}")
    finally:
        stop.set()
        collector.join()
    gc(api, grace_s=0)
    assert keys_of(api.stack.s3, digest) == []


def test_an_upload_that_nobody_goes_on_with_is_given_up_and_its_number_stays_used(api, w):
    data = unique_bytes()
    open_version(api.admin, w, "slow", {"m.pkl": data})
    api.sql("UPDATE manifests SET touched_at = now() - interval '2 days' WHERE NOT is_sealed")

    assert gc(api, dry_run=True)["abandoned_uploads"] >= 1
    assert gc(api)["abandoned_uploads"] >= 1

    assert_problem(api.admin.get(f"{w}/models/slow/versions/1"), "not-found")
    assert register(api.admin, w, "slow", {"m.pkl": data})["version"] == 2


def test_uploads_that_were_given_up_are_all_removed_however_many_they_are(api, w):
    count = EXPIRED_AT_ONCE + 3
    for number in range(count):
        open_version(api.admin, w, f"m{number}", {"m.pkl": unique_bytes()})
    api.sql("UPDATE manifests SET touched_at = now() - interval '2 days' WHERE NOT is_sealed")

    assert gc(api, dry_run=True)["abandoned_uploads"] >= count
    assert api.admin.get(f"{w}/models/m0/versions/1").status_code == 200
    assert gc(api)["abandoned_uploads"] >= count

    assert [api.admin.get(f"{w}/models/m{n}/versions/1").status_code for n in range(count)] == [404] * count
    assert gc(api)["abandoned_uploads"] == 0


def test_a_snapshot_that_was_whole_is_kept_when_nobody_finishes_sending_it_again(api, w):
    files = {"Dockerfile": b"FROM scratch " + unique_bytes().hex().encode()}
    made = snapshot(api.admin, w, files)
    body = {"user_managed_dependencies": True, "build_context": {"snapshot": made["digest"]}}
    api.admin.post(f"{w}/environments/e/versions", json=body).raise_for_status()
    remove(api.stack.s3, sha256(files["Dockerfile"]))
    scrub(api)
    again = api.admin.post(f"{w}/snapshots", json={"files": manifest(files)}).json()
    assert again["state"] == "uploading"
    open_version(api.admin, w, "slow", {"m.pkl": unique_bytes()})
    api.sql("UPDATE manifests SET touched_at = now() - interval '2 days' WHERE NOT is_sealed")

    assert gc(api)["abandoned_uploads"] >= 1

    assert_problem(api.admin.get(f"{w}/models/slow/versions/1"), "not-found")
    send(api.admin, again, files)
    assert api.admin.post(f"{w}/snapshots/{made['digest']}/commit").json()["state"] == "ready"


def test_damage_to_what_a_run_left_is_told_as_well(api, w):
    made = run(api.admin, w, id="r1")
    data = unique_bytes()
    for files in ({"outputs/m.pkl": data}, {"outputs/m.pkl": data, "b.txt": b"x"}):
        outputs(api.admin, w, made, files)
    key = remove(api.stack.s3, sha256(data))

    damaged = scrub(api)
    write(api.stack.s3, key, data)

    assert damaged[sha256(data)]["used_by"] == [f"{w.rsplit('/', 1)[1]}/exp/r1 outputs/m.pkl"]
    assert sha256(data) not in scrub(api)


def test_an_upload_of_which_parts_still_come_is_not_given_up(api, w):
    data = unique_bytes()
    open_version(api.admin, w, "slow", {"m.pkl": data})
    api.sql("UPDATE manifests SET touched_at = now() - interval '2 days' WHERE NOT is_sealed")
    api.sql(
        "INSERT INTO blob_uploads (id, token_id, sha256, size_bytes, part_bytes, epoch, part_epochs) "
        "VALUES (gen_random_uuid(), 'other', %s, 16, 8, 1, '{1}')",
        sha256(data),
    )

    gc(api)

    assert api.admin.get(f"{w}/models/slow/versions/1").json()["state"] == "uploading"
    send(api.admin, {"missing": [{"path": "m.pkl", "upload_url": f"/v1/blobs/{sha256(data)}"}]}, {"m.pkl": data})
    assert api.admin.post(f"{w}/models/slow/versions/1/commit").status_code == 200


def test_what_is_damaged_is_told_marked_and_mended(api, w):
    files = {"m/lost": unique_bytes(), "m/cut": unique_bytes(), "m/changed": unique_bytes(), "m/good": unique_bytes()}
    register(api.admin, w, "hurt", files)
    digests = {name.removeprefix("m/"): sha256(data) for name, data in files.items()}
    lost = remove(api.stack.s3, digests["lost"])
    write(api.stack.s3, keys_of(api.stack.s3, digests["cut"])[0], b"short")
    write(api.stack.s3, keys_of(api.stack.s3, digests["changed"])[0], b"x" * 16)

    damaged = scrub(api)

    workspace = w.rsplit("/", 1)[1]
    assert {digest: blob["damage"] for digest, blob in damaged.items() if digest in digests.values()} == {
        digests["lost"]: "missing",
        digests["cut"]: "truncated",
        digests["changed"]: "changed",
    }
    assert damaged[digests["lost"]]["used_by"] == [f"{workspace}/hurt:1 m/lost"]
    assert api.admin.get(f"{w}/models/hurt/versions/1").json()["state"] == "corrupt"
    assert_problem(api.admin.get(f"{w}/models/hurt/versions/1/files/m/good"), "wrong-state")

    write(api.stack.s3, lost, files["m/lost"])
    send_again(api, w, files)
    assert not scrub(api).keys() & set(digests.values())
    assert api.admin.get(f"{w}/models/hurt/versions/1").json()["state"] == "ready"
    names = [
        row["name"] for row in api.sql("SELECT name FROM events WHERE subject LIKE %s ORDER BY id", "models/hurt/%")
    ]
    assert names == ["model.registered", "model.corrupt", "model.mended"]


def test_files_whose_bytes_the_database_forgot_are_told_marked_and_mended(api, w):
    files = {"m/forgotten": unique_bytes(), "m/good": unique_bytes()}
    register(api.admin, w, "hurt", files)
    api.sql("DELETE FROM blobs WHERE sha256 = %s", sha256(files["m/forgotten"]))

    damaged = scrub(api)

    blob = damaged[sha256(files["m/forgotten"])]
    assert (blob["damage"], blob["size_bytes"]) == ("missing", 16)
    assert blob["used_by"] == [f"{w.rsplit('/', 1)[1]}/hurt:1 m/forgotten"]
    assert api.admin.get(f"{w}/models/hurt/versions/1").json()["state"] == "corrupt"

    register(api.admin, w, "healer", files)
    assert sha256(files["m/forgotten"]) not in scrub(api)
    assert api.admin.get(f"{w}/models/hurt/versions/1").json()["state"] == "ready"


def test_an_upload_whose_bytes_the_database_forgot_is_not_committed_without_them(api, w):
    data = unique_bytes()
    send(api.admin, open_version(api.admin, w, "slow", {"m.pkl": data}), {"m.pkl": data})
    api.sql("DELETE FROM blobs WHERE sha256 = %s", sha256(data))

    problem = assert_problem(api.admin.post(f"{w}/models/slow/versions/1/commit"), "blobs-missing")

    assert problem["paths"] == ["m.pkl"]
    send(api.admin, api.admin.get(f"{w}/models/slow/versions/1").json(), {"m.pkl": data})
    assert api.admin.post(f"{w}/models/slow/versions/1/commit").status_code == 200


def test_bytes_that_the_store_cannot_read_are_told_looked_at_again_soon_and_may_go(api, w):
    data = b"".join(unique_bytes() for _ in range(4096))
    register(api.admin, w, "rotten", {"m.pkl": data})
    url = f"{w}/models/rotten/versions/1"
    flip_on_disk(api, data)
    # First in a round, but not yet due for what the API does by itself.
    api.sql("UPDATE blobs SET verified_at = now() - interval '20 days' WHERE sha256 = %s", sha256(data))

    damaged = api.admin.post("/v1/scrub", timeout=SLOW_ANSWER_S).json()["damaged"]

    assert {blob["sha256"]: blob["damage"] for blob in damaged}[sha256(data)] in {"changed", "truncated", "unreadable"}
    assert api.admin.get(url).json()["state"] == "corrupt"

    flip_on_disk(api, data)
    ago = f"now() - interval '{AGAIN_S + 1} s'"
    api.sql(f"UPDATE blobs SET verified_at = {ago}, damaged_at = {ago} WHERE sha256 = %s", sha256(data))
    wait_until(lambda: api.admin.get(url).json()["state"] == "ready", "the version is ready by itself", 60)
    assert api.admin.get(f"{url}/files/m.pkl").content == data

    flip_on_disk(api, data)
    forsake(api, w, "rotten")
    gc(api, grace_s=0)
    assert gc(api, grace_s=0)["unreferenced_blobs"] == 0
    assert keys_of(api.stack.s3, sha256(data)) == []


def flip_on_disk(api, data):
    """Change a bit of an object in the store's own files, or turn it back."""
    (volume, offset), = (
        (file, at) for file in api.stack.layout.s3.rglob("*.dat") if (at := file.read_bytes().find(data[-999:])) > 0
    )  # fmt: skip
    with volume.open("r+b") as stream:
        stream.seek(offset - 1)
        byte = stream.read(1)
        stream.seek(offset - 1)
        stream.write(bytes([byte[0] ^ 1]))


def send_again(api, w, files):
    """Damaged bytes are asked for again by whoever registers them; what is whole is not."""
    hurt = {path: data for path, data in files.items() if path not in {"m/good", "m/lost"}}
    scrub(api)
    upload = open_version(api.admin, w, "healer", files)
    assert {missing["path"] for missing in upload["missing"]} == hurt.keys()
    send(api.admin, upload, files)


def test_wrong_bytes_sent_for_a_damaged_blob_mend_nothing(api, w):
    data = unique_bytes()
    register(api.admin, w, "hurt", {"m.pkl": data})
    remove(api.stack.s3, sha256(data))
    assert sha256(data) in scrub(api)
    open_version(api.admin, w, "healer", {"m.pkl": data})

    assert_problem(api.admin.put(f"/v1/blobs/{sha256(data)}", content=b"y" * len(data)), "digest-mismatch")

    assert sha256(data) in scrub(api)


def test_only_administrators_of_everything_may(api, workspace):
    for role in ("reader", "contributor", "deployer", "admin"):
        http = api.as_role(role, workspace)
        assert_problem(http.post("/v1/gc"), "forbidden")
        assert_problem(http.post("/v1/scrub"), "forbidden")


def test_a_collection_is_taken_up_again_after_the_api_was_killed_in_it(api, w):
    many = {f"m/{n}": uuid.uuid4().bytes for n in range(40)}
    register(api.admin, w, "many", many)
    digests = [file["sha256"] for file in manifest(many)]
    forsake(api, w, "many")
    gc(api, grace_s=3600)
    killer = threading.Timer(0.05, api.kill_api)
    killer.start()
    with contextlib.suppress(httpx2.TransportError):
        api.admin.post("/v1/gc", params={"grace_s": 0})
    killer.join()
    api.start_api()

    gc(api, grace_s=0)

    until(lambda: not [key for digest in digests for key in keys_of(api.stack.s3, digest)], "all objects are gone", 20)
