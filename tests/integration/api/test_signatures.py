"""Signatures beside versions: kept when they are about the version's files, served as they came, never vouched for."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from keelway import Client, signing
from keelway.contracts.files import FileEntry
from keelway.contracts.signatures import BUNDLE_MEDIA_TYPE
from keelway.errors import NotFound, UntrustedSignature
from tests.support.objects import remove
from tests.support.problems import assert_problem
from tests.support.registry import manifest, open_version, register, sha256, unique_bytes

KEY = ec.generate_private_key(ec.SECP256R1())
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def files():
    return {"m/a.bin": unique_bytes(), "m/sub/b.bin": unique_bytes()}


def signed(files):
    return signing.sign("m", [FileEntry(**file) for file in manifest(files)], PRIVATE)


def put(http, w, bundle, version=1):
    return http.put(f"{w}/models/m/versions/{version}/signature", content=bundle)


def test_a_signature_comes_back_as_it_was_given(api, w, files):
    before = register(api.admin, w, "m", files)
    bundle = signed(files)
    assert_problem(api.admin.get(f"{w}/models/m/versions/1/signature"), "not-found")

    made = put(api.admin, w, bundle)

    assert made.status_code == 200, made.text
    got = api.admin.get(f"{w}/models/m/versions/1/signature")
    assert (got.text, got.headers["content-type"].split(";")[0]) == (bundle, BUNDLE_MEDIA_TYPE)
    shown = api.admin.get(f"{w}/models/m/versions/1").json()
    assert shown["signature_key"] == json.loads(bundle)["verificationMaterial"]["publicKey"]["hint"]
    assert shown["signature_added_by"] == "admin"
    assert shown["signature_added_at"] == shown["updated_at"] > before["updated_at"]
    assert (before["signature_added_at"], shown["etag"] != before["etag"]) == (None, True)
    (listed,) = api.admin.get(f"{w}/models/m/versions").json()["items"]
    assert listed["signature_key"] == shown["signature_key"]


def test_another_signature_replaces_it_and_each_is_told(api, w, files):
    register(api.admin, w, "m", files)
    first, second = signed(files), signed(files)

    put(api.admin, w, first)
    put(api.admin, w, second)

    assert api.admin.get(f"{w}/models/m/versions/1/signature").text == second
    audit = [entry["action"] for entry in api.admin.get(f"{w}/audit").json()["items"]]
    assert audit.count("model.version.sign") == 2
    told = api.sql("SELECT count(*) FROM events WHERE name = 'model.signed' AND workspace_id = "
                   "(SELECT id FROM workspaces WHERE name = %s)", w.rsplit("/", 1)[1])  # fmt: skip
    assert told[0]["count"] == 2


def test_it_goes_with_its_version(api, w, files):
    register(api.admin, w, "m", files)
    put(api.admin, w, signed(files))
    count = "SELECT count(*) FROM model_signatures"
    before = api.sql(count)[0]["count"]

    assert api.admin.delete(f"{w}/models/m/versions/1").status_code == 204

    assert api.sql(count)[0]["count"] == before - 1
    assert_problem(api.admin.get(f"{w}/models/m/versions/1/signature"), "not-found")


def test_only_ready_versions_are_signed(api, w, files):
    open_version(api.admin, w, "m", files)

    for bundle in (signed(files), b"{}"):
        assert_problem(put(api.admin, w, bundle), "wrong-state")
    assert_problem(put(api.admin, w, signed(files), 7), "not-found")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no sigstore bundle"),
        (b"{}", "mediaType"),
        (b"\xff\xfe\x00", "no sigstore bundle"),
        (b"[" * 60_000, "no sigstore bundle"),
    ],
    ids=["empty", "object", "bytes", "deep"],
)
def test_what_is_no_signature_is_refused(api, w, files, body, told):
    register(api.admin, w, "m", files)

    assert told in assert_problem(put(api.admin, w, body), "signature-invalid")["detail"]


def test_a_signature_of_other_files_is_refused_and_says_which(api, w, files):
    register(api.admin, w, "m", files)

    problem = assert_problem(put(api.admin, w, signed({**files, "m/a.bin": b"other"})), "signature-invalid")

    assert "signed with another sha256: 'a.bin'" in problem["detail"]
    assert api.admin.get(f"{w}/models/m/versions/1").json()["signature_added_at"] is None


def test_a_signature_may_be_large_but_not_without_end(api, w, files):
    register(api.admin, w, "m", files)

    assert_problem(put(api.admin, w, b" " * (49 * 2**20)), "too-large")


def test_a_signature_is_no_place_to_keep_other_things(api, w, files):
    register(api.admin, w, "m", files)
    bundle = signed(files)

    assert put(api.admin, w, bundle + " " * 1000).status_code == 200
    assert_problem(put(api.admin, w, bundle + " " * 100_000), "too-large")
    assert_problem(put(api.admin, w, json.dumps({**json.loads(bundle), "more": "x" * 100_000})), "too-large")

    assert api.admin.get(f"{w}/models/m/versions/1/signature").text == bundle + " " * 1000


def test_a_version_that_was_changed_meanwhile_is_not_signed(api, w, files):
    seen = register(api.admin, w, "m", files)["etag"]
    api.admin.patch(f"{w}/models/m/versions/1", json={"description": "other"})
    url = f"{w}/models/m/versions/1/signature"

    assert_problem(api.admin.put(url, content=signed(files), headers={"If-Match": seen}), "precondition-failed")

    now = api.admin.get(f"{w}/models/m/versions/1").headers["etag"]
    made = api.admin.put(url, content=signed(files), headers={"If-Match": now})
    assert (made.status_code, made.headers["etag"]) == (200, made.json()["etag"])


def test_another_workspace_sees_nothing_of_it(api, w, files):
    register(api.admin, w, "m", files)
    put(api.admin, w, signed(files))
    stranger = api.as_role("admin", api.workspace())

    assert_problem(stranger.get(f"{w}/models/m/versions/1/signature"), "not-found")
    assert_problem(put(stranger, w, signed(files)), "not-found")


def test_the_sdk_signs_and_trusts_only_the_right_key(api, workspace, w, files, tmp_path):
    register(api.admin, w, "m", files)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    wrong = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with Client(api.url, api.token("admin"), workspace=workspace) as client:
        with pytest.raises(UntrustedSignature, match="has no signature"):
            client.models.verify("m:1", public_key=PUBLIC)
        with pytest.raises(NotFound):
            client.models.signature("m:1")

        client.models.sign("m:1", private_key=PRIVATE)

        assert client.models.verify("m:1", public_key=PUBLIC).damaged == []
        assert (client.models.download("m", 1, tmp_path, public_key=PUBLIC) / "a.bin").read_bytes() == files["m/a.bin"]
        with pytest.raises(UntrustedSignature):
            client.models.verify("m:1", public_key=wrong)
        with pytest.raises(UntrustedSignature):
            client.models.download("m", 1, tmp_path / "never", public_key=wrong)
        assert not (tmp_path / "never").exists()
        remove(api.stack.s3, sha256(files["m/a.bin"]))
        assert [file.path for file in client.models.verify("m:1", public_key=PUBLIC).damaged] == ["m/a.bin"]
