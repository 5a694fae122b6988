"""Who gets in: nobody without a token that counts."""

import http.client
import uuid

import pytest

from tests.support.problems import assert_problem
from tests.support.routes import PUBLIC, all_routes, filled

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ODD_PATHS = [
    *("/", "//", "/v1", "/v1/", "/v2", "/unknown", "/docs", "/redoc", "/openapi.json", "/metrics", "/statusz"),
    *("/livez/", "//livez", "/livez/x", "/LIVEZ", "/readyz/..", "/livez/../v1/whoami", "/problems/a/b", "/problems/"),
    *("/livez%3Fx", "/livez%2F", "/livez;x", "/livez%00", "/livez%0A", "/livez%23/v1/whoami", "/problems/../metrics"),
    *("/v1/whoami/", "//v1/whoami", "/v1//whoami", "/V1/whoami", "/v1/whoami?x=/livez", "/%2E%2E/v1/whoami"),
]


def raw(api, method, path, headers):
    """The answer to a path that is sent exactly as written."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": "localhost", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "template"), all_routes())
def test_every_route_needs_a_token(api, method, template):
    response = api.nobody.request(method, filled(template))

    if template in PUBLIC:
        assert response.status_code != 401
    else:
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        if method != "HEAD":
            assert_problem(response, "unauthenticated")


def test_the_routes_that_need_no_token_are_these():
    assert {template for _, template in all_routes()} >= PUBLIC


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ODD_PATHS)
def test_paths_that_do_not_exist_need_a_token_as_well(api, method, path):
    assert raw(api, method, path, {"Content-Length": "0"})[0] == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/problems", "/problems/not-found"])
def test_health_and_the_pages_about_problems_need_none(api, path):
    assert api.nobody.get(path).status_code == 200


def wrong_headers(api):
    token = api.new_token("reader")["secret"]
    prefix, token_id, secret = token.split("_", 2)
    return {
        "none": None,
        "empty": "",
        "scheme only": "Bearer",
        "no scheme": token,
        "basic": f"Basic {token}",
        "unknown id": f"Bearer {prefix}_{'0' * 12}_{secret}",
        "wrong secret": f"Bearer {prefix}_{token_id}_{'A' * 43}",
        "one character off": f"Bearer {token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        "cut": f"Bearer {token[:-1]}",
        "longer": f"Bearer {token}x",
        "another case": f"Bearer {token.upper()}",
        "twice": f"Bearer {token} {token}",
        "sql": "Bearer ' OR 1=1 --",
        "very long": "Bearer " + "A" * 8000,
        "not ascii": b"Bearer kw_\xff\xfe",
    }


def test_every_way_to_be_wrong_gets_the_same_answer(api):
    details = set()
    for name, header in wrong_headers(api).items():
        response = api.nobody.get("/v1/whoami", headers={"Authorization": header} if header is not None else {})

        document = assert_problem(response, "unauthenticated")
        if name not in {"none", "empty", "scheme only", "no scheme", "basic"}:
            details.add(document["detail"])
    assert len(details) == 1


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(api, scheme):
    response = api.nobody.get("/v1/whoami", headers={"Authorization": f"{scheme} {api.token('admin')}"})

    assert response.status_code == 200


def test_a_token_in_the_query_does_not_count(api):
    assert api.nobody.get("/v1/whoami", params={"token": api.token("admin")}).status_code == 401


def test_a_revoked_token_ends_with_the_next_request(api):
    token = api.new_token("reader")
    http = api.client(token["secret"])
    assert http.get("/v1/whoami").status_code == 200

    assert api.admin.delete(f"/v1/tokens/{token['id']}").status_code == 204

    assert_problem(http.get("/v1/whoami"), "unauthenticated")
    assert_problem(api.admin.delete(f"/v1/tokens/{token['id']}"), "not-found")
    assert token["id"] not in [found["id"] for found in api.admin.get("/v1/tokens").json()["items"]]


def test_an_expired_token_does_not_count(api):
    body = {"name": "brief", "grants": [{"role": "reader"}], "expires_in_s": 600}
    token = api.admin.post("/v1/tokens", json=body).json()
    http = api.client(token["secret"])
    assert http.get("/v1/whoami").status_code == 200

    api.sql("UPDATE tokens SET expires_at = now() - interval '1 second' WHERE id = %s", token["id"])

    assert_problem(http.get("/v1/whoami"), "unauthenticated")
    assert token["id"] not in [found["id"] for found in api.admin.get("/v1/tokens").json()["items"]]


@pytest.mark.parametrize("expires_in_s", [0, -1, 10**12, 10**30, 1.5, "x"])
def test_an_expiry_out_of_reason_is_refused(api, expires_in_s):
    body = {"name": "brief", "grants": [{"role": "reader"}], "expires_in_s": expires_in_s}

    assert_problem(api.admin.post("/v1/tokens", json=body), "invalid-request")


def test_the_secret_is_shown_once(api):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": "once", "grants": [{"role": "reader"}]}

    first = api.admin.post("/v1/tokens", json=body, headers=headers)
    again = api.admin.post("/v1/tokens", json=body, headers=headers)

    secret = first.json()["secret"]
    assert assert_problem(again, "secret-shown-once")["id"] == first.json()["id"]
    assert secret.split("_", 2)[2] not in again.text
    assert secret.split("_", 2)[2] not in api.admin.get("/v1/tokens").text
    stored = api.sql("SELECT * FROM tokens WHERE id = %s", first.json()["id"])
    kept = api.sql("SELECT body FROM idempotency_keys WHERE key = %s", headers["Idempotency-Key"])
    assert secret.split("_", 2)[2] not in repr(stored) + repr(kept)


def test_a_token_whose_secret_was_lost_is_revoked_by_the_id_that_the_answer_names(api):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": "lost", "grants": [{"role": "reader"}]}
    lost = api.client(api.admin.post("/v1/tokens", json=body, headers=headers).json()["secret"])

    named = api.admin.post("/v1/tokens", json=body, headers=headers).json()["id"]

    assert api.admin.delete(f"/v1/tokens/{named}").status_code == 204
    assert_problem(lost.get("/v1/whoami"), "unauthenticated")


def test_the_last_use_of_a_token_is_noted(api):
    token = api.new_token("reader")
    assert token["last_used_at"] is None

    api.client(token["secret"]).get("/v1/whoami")

    items = api.admin.get("/v1/tokens").json()["items"]
    assert next(item for item in items if item["id"] == token["id"])["last_used_at"] is not None


def test_whoami_tells_name_and_grants(api, workspace):
    token = api.new_token("deployer", workspace, name="carol")

    whoami = api.client(token["secret"]).get("/v1/whoami").json()

    assert (whoami["id"], whoami["name"]) == (token["id"], "carol")
    assert whoami["grants"] == [{"role": "deployer", "workspace": workspace}]


def test_a_grant_in_an_unknown_workspace_is_not_found(api):
    body = {"name": "x", "grants": [{"role": "reader", "workspace": "no-such-workspace"}]}

    assert_problem(api.admin.post("/v1/tokens", json=body), "not-found")


def test_the_same_grant_twice_is_one(api, workspace):
    grant = {"role": "reader", "workspace": workspace}

    made = api.admin.post("/v1/tokens", json={"name": "x", "grants": [grant, grant]}).json()

    assert made["grants"] == [grant]


HOSTS = ["evil.example", "localhost.evil.example", "evil.example:7300", "127.0.0.2", "", "localhost@evil", "[::2]", "*"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/livez", "/v1/whoami"])
def test_a_host_that_nobody_configured_is_refused(api, host, path):
    status, body = raw(api, "GET", path, {"Host": host, "Authorization": f"Bearer {api.token('admin')}"})

    assert status == 400
    assert b"/problems/host-not-allowed" in body or b"Invalid" in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:7300", "[::1]", "[::1]:7300"])
def test_loopback_s_own_names_are_answered(api, host):
    assert raw(api, "GET", "/livez", {"Host": host})[0] == 200
