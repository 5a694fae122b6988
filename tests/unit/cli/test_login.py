"""Logging in, who one is, and which workspace is in use."""

from __future__ import annotations

import json

from keelway import context
from tests.unit.sdk.wire import Answer, problem

ME = {"id": "1", "name": "ana", "grants": [{"role": "admin"}], "keelway_version": "0.1.0"}
TEAM = {"name": "team", "description": "", "created_at": "2030-01-01T00:00:00Z", "created_by": "me"}


def test_login_checks_the_token_and_keeps_it(wire, keelway, monkeypatch):
    wire.on("GET /v1/whoami", Answer(body=ME))

    result = keelway("login", wire.url, "--token", "kw_given")

    assert result.exit_code == 0
    assert "kw_given" not in result.output
    assert wire.asked[0].headers["authorization"] == "Bearer kw_given"
    assert context.current() == context.Context(wire.url.removeprefix("http://"), wire.url, "kw_given", "default")

    monkeypatch.delenv("KEELWAY_URL")
    monkeypatch.delenv("KEELWAY_TOKEN")
    assert "ana" in keelway("whoami").stdout


def test_the_token_is_asked_for_and_not_shown(wire, keelway):
    wire.on("GET /v1/whoami", Answer(body=ME))

    result = keelway("login", wire.url, "--json", input="kw_typed\n")

    assert json.loads(result.stdout)["name"] == "ana"
    assert "kw_typed" not in result.output
    assert wire.asked[0].headers["authorization"] == "Bearer kw_typed"


def test_a_wrong_token_is_not_kept(wire, keelway):
    wire.on("GET /v1/whoami", problem(401, "unauthenticated", "unknown token"))

    result = keelway("login", wire.url, "--token", "kw_wrong")

    assert result.exit_code == 1
    assert "unknown token" in result.stderr
    assert context.current() is None


def test_whoami_says_where_and_what(wire, keelway):
    wire.on("GET /v1/whoami", Answer(body=ME))

    document = json.loads(keelway("whoami", "--json").stdout)

    assert (document["name"], document["url"], document["workspace"]) == ("ana", wire.url, "default")
    assert "admin everywhere" in keelway("whoami").stdout


def test_a_workspace_is_made_used_and_shown(wire, keelway, monkeypatch):
    context.save("here", wire.url, "kw_secret")
    wire.on("POST /v1/workspaces", Answer(201, TEAM))
    wire.on("GET /v1/workspaces/team", Answer(body=TEAM))
    wire.on("GET /v1/workspaces", Answer(body={"items": [TEAM]}))

    assert keelway("workspace", "create", "team").exit_code == 0
    assert keelway("workspace", "use", "team").exit_code == 0
    shown = json.loads(keelway("workspace", "show", "--json").stdout)
    listed = json.loads(keelway("workspace", "list", "--json").stdout)

    assert shown["name"] == listed[0]["name"] == "team"
    assert "*  team" in keelway("workspace", "list").stdout


def test_a_workspace_that_is_not_there_is_not_used(wire, keelway):
    context.save("here", wire.url, "kw_secret")

    assert keelway("workspace", "use", "nope").exit_code == 1
    assert context.current().workspace == "default"
