"""Where the client goes, with what, and how patient it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import httpx2
import pytest

from keelway import context
from keelway.client import Client
from keelway.errors import InvalidInput, KeelwayError, NotFound, ProblemError, Unreachable
from tests.unit.sdk.wire import Answer, problem, serving

ME = {"id": "1", "name": "me", "grants": [], "keelway_version": "0.1.0"}
BUSY = problem(503, "dependency-away", "redis", {"Retry-After": "0"})


def test_a_request_carries_the_token(wire, client):
    wire.on("GET /v1/whoami", Answer(body=ME))

    assert client.whoami().name == "me"
    assert wire.asked[0].headers["authorization"] == "Bearer kw_secret"


def test_the_token_is_not_sent_to_another_origin(wire, client):
    with serving() as store:
        store.on("PUT /bucket/key", Answer())

        client.request("PUT", f"{store.url}/bucket/key?signature=1", content=b"bytes")

        assert "authorization" not in store.asked[0].headers
        assert store.asked[0].query == "signature=1"


def test_an_error_answer_raises_its_problem_at_once(wire, client):
    wire.on("GET /v1/x", problem(404, "not-found", "no x"))

    with pytest.raises(NotFound, match="no x"):
        client.request("GET", "/v1/x")
    assert len(wire.asked) == 1


def test_a_503_is_tried_again(wire, client):
    wire.on("GET /v1/whoami", BUSY, BUSY, Answer(body=ME))

    assert client.whoami().name == "me"
    assert len(wire.asked) == 3


def test_who_waits_is_told_once_why(wire, client):
    wire.on("GET /v1/whoami", BUSY, BUSY, Answer(body=ME))
    told: list[str] = []
    client.transport.on_wait = told.append

    client.whoami()

    assert len(told) == 1
    assert "redis" in told[0]
    assert "trying again" in told[0]


def test_retry_after_is_honoured(wire, client):
    wire.on("GET /v1/whoami", problem(503, "dependency-away", headers={"Retry-After": "1"}), Answer(body=ME))
    began = time.monotonic()

    client.whoami()

    assert time.monotonic() - began >= 1


def test_a_retry_after_beyond_the_callers_patience_is_not_waited_for(wire, client):
    wire.on("GET /v1/whoami", problem(503, "dependency-away", headers={"Retry-After": "600"}))
    began = time.monotonic()

    with pytest.raises(ProblemError) as caught:
        client.whoami()
    assert caught.value.type == "dependency-away"
    assert time.monotonic() - began < 3


def test_retries_end_when_the_time_is_used_up(wire):
    wire.on("GET /v1/whoami", BUSY)

    with Client(wire.url, retry_for_s=0.5) as client, pytest.raises(ProblemError):
        client.whoami()
    assert 2 <= len(wire.asked) <= 10


def test_a_cut_connection_is_tried_again_with_the_same_idempotency_key(wire, client):
    wire.on("POST /v1/x", Answer(drop=True), Answer(201, {"a": 1}))

    assert client.request("POST", "/v1/x", json={"b": 2}).json() == {"a": 1}

    first, second = wire.of("POST")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body == json.dumps({"b": 2}, separators=(",", ":")).encode()


def test_two_posts_have_two_keys(wire, client):
    wire.on("POST /v1/x", Answer(201))

    client.request("POST", "/v1/x")
    client.request("POST", "/v1/x")

    assert len({asked.headers["idempotency-key"] for asked in wire.asked}) == 2


def test_the_answer_to_a_first_request_that_still_runs_is_waited_for(wire, client):
    busy = problem(409, "idempotency-in-flight", headers={"Retry-After": "0"})
    wire.on("POST /v1/x", Answer(drop=True), busy, Answer(201, {"a": 1}))

    assert client.request("POST", "/v1/x").json() == {"a": 1}


def test_nobody_there_is_unreachable():
    with serving() as gone:
        url = gone.url

    with Client(url, retry_for_s=0.2) as client, pytest.raises(Unreachable, match="refused"):
        client.whoami()


def test_a_header_that_cannot_be_sent_is_not_retried(wire):
    with Client(wire.url, "kw_\nx", retry_for_s=30) as client, pytest.raises(InvalidInput):
        client.whoami()


@pytest.mark.parametrize("url", ["127.0.0.1:7300", "ftp://x", "http://", "nonsense"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(InvalidInput):
        Client(url)


def test_a_path_of_the_address_is_kept():
    seen = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(200, json=ME)

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as http:
        Client("https://host/keelway/", http=http).whoami()

    assert seen == ["https://host/keelway/v1/whoami"]


def test_names_cannot_change_the_path(wire, client):
    wire.on("GET /v1/workspaces/default/models/a%2Fb/versions/latest", problem(404, "not-found"))

    with pytest.raises(NotFound):
        client.models.get("a/b")
    with pytest.raises(InvalidInput):
        client.models.get("..")
    assert wire.asked[0].path == "/v1/workspaces/default/models/a%2Fb/versions/latest"


def test_an_answer_of_another_shape_is_said_clearly(wire, client):
    wire.on("GET /v1/whoami", Answer(body={"id": 1}))

    with pytest.raises(KeelwayError, match="not what this version of the SDK understands"):
        client.whoami()


def test_lists_go_on_over_pages(wire, client):
    def space(name: str) -> dict:
        return {"name": name, "description": "", "created_at": "2030-01-01T00:00:00Z", "created_by": "me"}

    wire.on(
        "GET /v1/workspaces",
        Answer(body={"items": [space("a"), space("b")], "next_page_token": "t"}),
        Answer(body={"items": [space("c")]}),
    )

    assert [found.name for found in client.workspaces.list()] == ["a", "b", "c"]
    assert wire.asked[1].query == "page_token=t"


def test_settings_come_from_arguments_then_environment_then_context(monkeypatch):
    context.save("here", "http://stored:1", "kw_stored", "stored")
    assert (Client().url, Client().workspace) == ("http://stored:1", "stored")

    monkeypatch.setenv("KEELWAY_URL", "http://environment:1")
    monkeypatch.setenv("KEELWAY_WORKSPACE", "of-environment")
    assert (Client().url, Client().workspace) == ("http://environment:1", "of-environment")

    given = Client("http://argument:1", workspace="of-argument")
    assert (given.url, given.workspace) == ("http://argument:1", "of-argument")


def test_without_anything_it_is_this_machine():
    assert (Client().url, Client().workspace) == ("http://127.0.0.1:7300", "default")


def test_a_stored_token_only_goes_to_its_own_address(wire):
    context.save("elsewhere", "http://stored:1", "kw_stored")
    wire.on("GET /v1/whoami", Answer(body=ME))

    with Client(wire.url) as client:
        client.whoami()
    context.save("here", wire.url, "kw_here")
    with Client(wire.url + "/") as client:
        client.whoami()

    assert "authorization" not in wire.asked[0].headers
    assert wire.asked[1].headers["authorization"] == "Bearer kw_here"


def test_a_token_may_be_in_a_file(wire, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("kw_of_file\n")
    monkeypatch.setenv("KEELWAY_TOKEN_FILE", str(tmp_path / "token"))
    wire.on("GET /v1/whoami", Answer(body=ME))

    with Client(wire.url) as client:
        client.whoami()

    assert wire.asked[0].headers["authorization"] == "Bearer kw_of_file"


@pytest.mark.parametrize("statement", ["import keelway", "import keelway.contracts", "import keelway.errors"])
def test_importing_the_package_does_not_import_the_client(statement):
    code = f"import sys; {statement}; sys.exit('httpx2' in sys.modules or 'pydantic' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_are_loaded_when_used():
    import keelway

    assert keelway.Client is Client
    assert keelway.errors.NotFound is NotFound
    assert keelway.__version__
    assert {"Client", "errors"} <= set(dir(keelway))
    with pytest.raises(AttributeError):
        _ = keelway.nothing
