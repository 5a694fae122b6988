"""Signatures: what is signed, what a bundle must say, and that keys decide.

The bundles in `signatures/` were made by model-signing 1.1.1 (`model_signing sign key`) of the files below.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import PublicFormat as Public

from keelway import signing
from keelway.contracts.signatures import check_statement, opened, statement
from keelway.errors import InvalidInput, UntrustedSignature
from tests.unit.sdk.samples import entry

MADE = Path(__file__).parent / "signatures"
FOLDER = [
    entry("mdl/a.txt", b"alpha\n"),
    entry("mdl/sub-x/c.txt", b"z\n"),
    entry("mdl/sub.txt", b"q\n"),
    entry("mdl/sub/b.txt", b"beta\n"),
]
FILE = [entry("a.txt", b"alpha\n")]


def pair(key=None, password: bytes | None = None) -> tuple[bytes, bytes]:
    key = key or ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return private, key.public_key().public_bytes(Encoding.PEM, Public.SubjectPublicKeyInfo)


@pytest.mark.parametrize(("name", "files"), [("folder", FOLDER), ("file", FILE)])
def test_what_model_signing_signed_is_verified(name, files):
    signing.check((MADE / f"{name}.sig").read_bytes(), (MADE / "public.pem").read_bytes(), files)


@pytest.mark.parametrize(("name", "files", "top"), [("folder", FOLDER, "mdl"), ("file", FILE, "a.txt")])
def test_our_statement_says_what_model_signing_says(name, files, top):
    ours = json.loads(statement(top, files))
    theirs = json.loads(opened((MADE / f"{name}.sig").read_bytes()).statement)

    del ours["predicate"]["serialization"]["ignore_paths"], theirs["predicate"]["serialization"]["ignore_paths"]
    assert ours == theirs


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_a_key_verifies_what_its_private_key_signed(curve):
    private, public = pair(ec.generate_private_key(curve))
    signed = signing.sign("mdl", FOLDER, private)

    signing.check(signed, public, FOLDER)
    with pytest.raises(UntrustedSignature, match="not made with the private key"):
        signing.check(signed, pair(ec.generate_private_key(curve))[1], FOLDER)


def test_files_without_a_common_folder_are_signed_by_their_whole_paths():
    files = [entry("a.txt", b"a"), entry("b/c.txt", b"c")]
    private, public = pair()

    signed = signing.sign("two", files, private)

    signing.check(signed, public, files)
    assert b'"b/c.txt"' in opened(signed).statement


def test_an_encrypted_key_needs_its_password():
    private, public = pair(password=b"secret")

    signing.check(signing.sign("mdl", FOLDER, private, b"secret"), public, FOLDER)
    for password in (None, b"wrong"):
        with pytest.raises(InvalidInput, match="private key"):
            signing.sign("mdl", FOLDER, private, password)


def test_keys_of_other_kinds_are_refused():
    private, public = pair(ed25519.Ed25519PrivateKey.generate())
    odd_private, odd_public = pair(ec.generate_private_key(ec.SECP256K1()))
    signed = (MADE / "folder.sig").read_bytes()

    for key in (private, odd_private, b"no key"):
        with pytest.raises(InvalidInput, match=r"P-256, P-384 or P-521"):
            signing.sign("mdl", FOLDER, key)
    for key in (public, odd_public, b"no key"):
        with pytest.raises(InvalidInput, match=r"P-256, P-384 or P-521"):
            signing.check(signed, key, FOLDER)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (FOLDER[:-1], "signed, but not in the version: 'sub/b.txt'"),
        ([*FOLDER, entry("mdl/new", b"")], "not signed: 'new'"),
        ([*FOLDER[:-1], entry("mdl/sub/b.txt", b"other")], "signed with another sha256: 'sub/b.txt'"),
        ([entry(f"mdl/{n}", b"") for n in range(9)], "not signed: '0', '1', '2' and 6 more"),
    ],
)
def test_other_files_are_named(files, told):
    with pytest.raises(UntrustedSignature) as raised:
        signing.check((MADE / "folder.sig").read_bytes(), (MADE / "public.pem").read_bytes(), files)
    assert told in str(raised.value)


def test_a_changed_statement_is_not_what_was_signed():
    bundle = json.loads((MADE / "folder.sig").read_bytes())
    said = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b'"mdl"', b'"MDL"')
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(said).decode()

    check_statement(said, FOLDER)
    with pytest.raises(UntrustedSignature, match="not made with the private key"):
        signing.check(json.dumps(bundle), (MADE / "public.pem").read_bytes(), FOLDER)


def changed(**fields) -> bytes:
    return json.dumps(json.loads(statement("mdl", FOLDER)) | fields).encode()


TWICE = json.loads(statement("mdl", FOLDER))["predicate"]
TWICE["resources"][1]["name"] = TWICE["resources"][0]["name"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"{}", "no statement"),
        (b"[" * 100_000, "no statement"),
        (changed(predicateType="https://slsa.dev/provenance/v1"), "predicateType"),
        (changed(subject=[{"digest": {"sha256": "0" * 64}}]), "digest of all files"),
        (changed(predicate=TWICE), "names a file twice"),
    ],
)
def test_statements_of_another_form_are_refused(said, told):
    with pytest.raises(ValueError, match=told):
        check_statement(said, FOLDER)


BUNDLE = json.loads((MADE / "folder.sig").read_bytes())


@pytest.mark.parametrize(
    "bundle",
    [
        "",
        "no JSON",
        "[]",
        "[" * 100_000,
        b"\xff\xfe",
        json.dumps(BUNDLE | {"mediaType": "application/json"}),
        json.dumps(BUNDLE | {"dsseEnvelope": BUNDLE["dsseEnvelope"] | {"payload": "*"}}),
        json.dumps(BUNDLE | {"dsseEnvelope": BUNDLE["dsseEnvelope"] | {"signatures": []}}),
        json.dumps(BUNDLE | {"verificationMaterial": {"publicKey": {"hint": "a\u0000b"}}}),
        json.dumps(BUNDLE | {"verificationMaterial": {"publicKey": {"hint": "a" * 257}}}),
    ],
    ids=range(10),
)
def test_what_is_no_bundle_is_refused(bundle):
    with pytest.raises(ValueError, match="no sigstore bundle"):
        opened(bundle)


MANY = """
import resource, sys, time
from keelway.contracts.signatures import check_statement
statement = ('{"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": ""}}], '
    '"predicateType": "https://model_signing/signature/v1.0", "predicate": {"serialization": {"method": "files"}, '
    '"resources": [' + ", ".join([sys.argv[1]] * int(sys.argv[2])) + ']}}').encode()
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
try:
    check_statement(statement, [])
except ValueError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.monotonic() - started, error)
"""
GOOD = json.dumps({"name": "a", "algorithm": "sha256", "digest": "0" * 64})


@pytest.mark.parametrize(
    ("resource", "count", "told"),
    [("{}", 400_000, "predicate.resources.0.name"), (GOOD, 100_001, "at most 100000 items")],
)
def test_many_resources_are_refused_at_the_first_that_is_wrong(resource, count, told):
    command = [sys.executable, "-c", MANY, resource, str(count)]

    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    memory_kib, took_s, message = said.split(" ", 2)
    assert told in message
    assert int(memory_kib) < 200 * 2**10
    assert float(took_s) < 2
