"""The registry through the command line: said, found, named, changed, approved, deleted."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@pytest.fixture
def made(keelway, tmp_path):
    """Two versions of a model, as somebody registers them."""
    (tmp_path / "m.bin").write_bytes(b"some weights")
    (tmp_path / "in.json").write_text('{"data": [[1, 2]]}')
    (tmp_path / "out.json").write_text("[3.5]")
    base = ("model", "register", "-n", "catalogued", "-p", tmp_path / "m.bin", "--tag")
    assert keelway(*base, "stage=test").returncode == 0
    done = keelway(
        *(*base, "stage=prod", "--property", "commit=abc", "--dataset", "training=diabetes:3"),
        *("--framework", "ScikitLearn", "--framework-version", "1.7", "--memory-gb", "0.5", "--requires-approval"),
        *("--sample-input", tmp_path / "in.json", "--sample-output", tmp_path / "out.json", "-d", "the better one"),
    )
    assert done.returncode == 0, done.stderr
    yield "catalogued"
    keelway("model", "alias", "remove", "catalogued", "champion")
    keelway("model", "delete", "catalogued", "--yes")


def ids(done):
    assert done.returncode == 0, done.stderr
    return [item["id"] for item in json.loads(done.stdout)]


def test_versions_are_found_by_what_was_said_of_them(keelway, made):
    latest = int(ids(keelway("model", "list", "-n", made, "--json"))[0].split(":")[1])

    assert ids(keelway("model", "list", "-n", made, "--tag", "stage=test", "--json")) == [f"{made}:{latest - 1}"]
    assert ids(keelway("model", "list", "--all-versions", "--dataset", "diabetes:3", "--json")) == [f"{made}:{latest}"]
    assert "no model" in keelway("model", "list", "-n", "nowhere").stderr


def test_a_version_is_shown_on_a_page_that_people_read(keelway, made):
    shown = keelway("model", "show", made).stdout

    for line in ("the better one", "ScikitLearn 1.7", "0.5 GB", "stage=prod", "diabetes:3 (training)",
                 '{"data": [[1, 2]]}', "required, not given yet", "12 B in 1 file(s)"):  # fmt: skip
        assert line in shown


def test_a_version_is_changed_approved_named_and_deleted(keelway, made):
    version = json.loads(keelway("model", "show", made, "--json").stdout)["version"]
    reference = f"{made}:{version}"

    updated = keelway("model", "update", reference, "--tag", "new=x", "--remove-tag", "stage", "--property", "who=me")
    approved = json.loads(keelway("model", "approve", reference, "--json").stdout)
    named = keelway("model", "alias", "set", made, "champion", str(version))
    refused = keelway("model", "delete", reference, "--yes")

    assert (updated.returncode, approved["tags"], approved["properties"]) == (
        *(0, {"new": "x"}),
        {"commit": "abc", "who": "me"},
    )
    assert approved["approved_by"] == "admin"
    assert named.stdout == f"champion is {reference}\n"
    assert json.loads(keelway("model", "show", f"{made}:champion", "--json").stdout)["id"] == reference
    assert (refused.returncode, "alias champion" in refused.stderr) == (1, True)
    assert keelway("model", "alias", "remove", made, "champion").returncode == 0
    assert f"removed from {version}" in keelway("model", "alias", "history", made, "champion").stdout
    assert keelway("model", "delete", reference, "--yes").returncode == 0
    assert "There is no model version" in keelway("model", "show", reference).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "update", "x:1"),
        ("model", "register", "-n", "x", "-p", "/etc/hostname", "--dataset", "nothing"),
        ("model", "update", "x:1", "--tag", "novalue"),
    ],
)
def test_wrong_use_is_told(keelway, arguments):
    assert keelway(*arguments).returncode in {1, 2}


def test_a_sample_that_is_no_json_is_named(keelway, tmp_path):
    (tmp_path / "in.json").write_text("{nope")
    done = keelway("model", "register", "-n", "x", "-p", tmp_path / "in.json", "--sample-input", tmp_path / "in.json")

    assert (done.returncode, "in.json is no JSON" in done.stderr) == (1, True)


def test_a_version_is_signed_and_verified_with_the_key(keelway, made, tmp_path):
    for name in ("mine", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(private)
        (tmp_path / f"{name}.pub").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    unsigned = keelway("model", "verify", made, "--public-key", tmp_path / "mine.pub")
    assert (unsigned.returncode, "has no signature" in unsigned.stderr) == (1, True)

    signed = keelway("model", "sign", made, "--private-key", tmp_path / "mine.pem")

    assert signed.returncode == 0, signed.stderr
    assert "not verified here" in keelway("model", "show", made).stdout
    verified = keelway("model", "verify", made, "--public-key", tmp_path / "mine.pub")
    assert (verified.returncode, "signed with" in verified.stdout) == (0, True)
    got = keelway("model", "download", made, "-t", tmp_path / "got", "--public-key", tmp_path / "mine.pub")
    assert (got.returncode, (tmp_path / "got" / "m.bin").read_bytes()) == (0, b"some weights")
    wrong = keelway("model", "download", made, "-t", tmp_path / "no", "--public-key", tmp_path / "other.pub")
    assert (wrong.returncode, (tmp_path / "no").exists()) == (1, False)
    assert "not made with the private key" in wrong.stderr
    assert "give --private-key" in keelway("model", "sign", made).stderr
