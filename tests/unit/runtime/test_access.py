"""Keys and tokens guard /score and /swagger.json, and nothing else."""

import base64
import hashlib
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

SCRIPT = "def init(): pass\ndef run(raw): return raw"
KEYS = {"primary": "first key", "secondary": "second key"}
ISSUER, AUDIENCE = "keelway", "default/guarded"


def sha256(key):
    return hashlib.sha256(key.encode()).hexdigest()


def write(path, content):
    """Whole, as whoever changes the file of a running server does it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(path)


def bearer(secret):
    return {"authorization": f"Bearer {secret}", "content-type": "text/plain"}


@pytest.fixture(scope="module")
def signers():
    return {
        "ed": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
        "rsa": ("RS256", rsa.generate_private_key(65537, 2048)),
        "stranger": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, signers):
    folder = tmp_path_factory.mktemp("access")
    write(folder / "keys.json", {name: sha256(key) for name, key in KEYS.items()})
    jwks = [
        jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "alg": algorithm}
        for kid, (algorithm, key) in signers.items()
        if kid != "stranger"
    ]
    write(folder / "tokens.json", {"issuer": ISSUER, "audience": AUDIENCE, "keys": jwks})
    return folder


@pytest.fixture(scope="module")
def guarded(serve, folder):
    files = {"KEELWAY_KEYS_FILE": str(folder / "keys.json"), "KEELWAY_TOKENS_FILE": str(folder / "tokens.json")}
    return serve(SCRIPT, SERVICE_NAME="guarded", **files).wait_ready()


def token(signers, kid="ed", *, signed_by=None, algorithm=None, **changes):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600} | changes
    name, key = signers[signed_by or kid]
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm or name, headers={"kid": kid})


@pytest.mark.parametrize("key", KEYS.values())
def test_both_keys_open(guarded, key):
    assert guarded.score(b"x", bearer(key)).body == b'"x"'
    assert guarded.get("/swagger.json", bearer(key)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("third key"),
        bearer(""),
        bearer(sha256(KEYS["primary"])),
        {"authorization": KEYS["primary"]},
        {"authorization": f"Basic {KEYS['primary']}"},
        {"authorization": "Bearer"},
        bearer("first key\xff"),
    ],
    ids=["none", "wrong", "empty", "its-hash", "no-scheme", "basic", "scheme-only", "latin"],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/score"), ("GET", "/score"), ("GET", "/swagger.json")])
def test_without_a_key_it_is_401(guarded, headers, method, path):
    answer = guarded.request(method, path, b"x" if method == "POST" else None, headers)

    assert (answer.status, answer.json()["status_code"]) == (401, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="guarded"'


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics"])
def test_probes_need_no_key(guarded, path):
    assert guarded.get(path).status == 200


def test_a_refused_request_never_reaches_the_script(serve, folder):
    server = serve("def init(): pass\ndef run(raw): print('scored', raw)", KEELWAY_KEYS_FILE=str(folder / "keys.json"))
    server.wait_ready().score(b"secret input")
    server.score(b"known", bearer("first key"))

    server.wait_for(lambda: "scored known" in server.output)
    assert "secret input" not in server.output


@pytest.mark.parametrize("kid", ["ed", "rsa"])
def test_a_token_opens(guarded, signers, kid):
    secret = token(signers, kid)

    assert [guarded.score(b"x", bearer(secret)).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"iss": "somebody"},
        {"iss": None},
        {"aud": "default/other"},
        {"aud": None},
        {"nbf": int(time.time()) + 3600},
        {"signed_by": "stranger"},
        {"kid": "stranger"},
        {"kid": "rsa", "signed_by": "ed"},
    ],
    ids=lambda wrong: "-".join(wrong) + str(next(iter(wrong.values())))[:8],
)
def test_a_token_that_is_not_right_is_401(guarded, signers, wrong):
    assert guarded.score(b"x", bearer(token(signers, **wrong))).status == 401


def test_a_token_without_a_signature_is_401(guarded):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
    for algorithm in ("none", "None", "HS256"):
        forged = f"{part({'alg': algorithm, 'kid': 'ed'})}.{part(claims)}."
        assert guarded.score(b"x", bearer(forged)).status == 401


def test_a_token_signed_with_the_public_key_as_a_secret_is_401(guarded, signers):
    import hmac

    from cryptography.hazmat.primitives import serialization as form

    public = signers["rsa"][1].public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    parts = token(signers, "rsa").split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').decode().rstrip("=")
    mac = hmac.digest(public, f"{head}.{parts[1]}".encode(), "sha256")
    forged = f"{head}.{parts[1]}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"

    assert guarded.score(b"x", bearer(forged)).status == 401


def test_new_keys_count_within_two_seconds_and_old_ones_no_more(serve, tmp_path):
    path = tmp_path / "keys.json"
    write(path, {"primary": sha256("old"), "secondary": sha256("kept")})
    server = serve(SCRIPT, KEELWAY_KEYS_FILE=str(path)).wait_ready()
    assert server.score(b"x", bearer("old")).status == 200

    write(path, {"primary": sha256("new"), "secondary": sha256("kept")})
    changed = time.monotonic()
    server.wait_for(lambda: server.score(b"x", bearer("new")).status == 200)

    assert time.monotonic() - changed < 2
    assert server.score(b"x", bearer("old")).status == 401
    assert server.score(b"x", bearer("kept")).status == 200


def test_a_key_file_that_breaks_later_changes_nothing(serve, tmp_path):
    path = tmp_path / "keys.json"
    write(path, {"primary": sha256("key")})
    server = serve(SCRIPT, KEELWAY_KEYS_FILE=str(path)).wait_ready()

    path.write_text("{")
    server.wait_for(lambda: server.events("keys not read"))

    assert server.score(b"x", bearer("key")).status == 200
    assert server.score(b"x", bearer("other")).status == 401


def test_no_key_at_all_lets_nobody_in(serve, tmp_path):
    write(tmp_path / "keys.json", {})
    server = serve(SCRIPT, KEELWAY_KEYS_FILE=str(tmp_path / "keys.json")).wait_ready()

    assert server.score(b"x", bearer("")).status == 401


@pytest.mark.parametrize("content", ["{", "[]", '{"primary": "not a digest"}', '{"primary": 1}', None])
def test_a_key_file_that_cannot_be_read_ends_the_start_with_2(serve, tmp_path, content):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    server = serve(SCRIPT, KEELWAY_KEYS_FILE=str(path))

    assert server.wait_exit() == 2
    assert "keys" in server.output


@pytest.mark.parametrize("content", ["{}", '{"issuer": "a", "audience": "b", "keys": []}'])
def test_a_token_file_without_keys_ends_the_start_with_2(serve, tmp_path, content):
    (tmp_path / "tokens.json").write_text(content)

    assert serve(SCRIPT, KEELWAY_TOKENS_FILE=str(tmp_path / "tokens.json")).wait_exit() == 2
