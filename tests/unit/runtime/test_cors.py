"""Browsers of other origins: told by the deployment, or by the script itself."""

import pytest

SCRIPT = "def init(): pass\ndef run(raw): return raw"
RAW = """
    from azureml.contrib.services.aml_request import AMLRequest, rawhttp
    from azureml.contrib.services.aml_response import AMLResponse

    def init():
        pass

    @rawhttp
    def run(request):
        response = AMLResponse(request.method, 200)
        response.headers["Access-Control-Allow-Origin"] = "http://script.example"
        return response
"""
PREFLIGHT = {"origin": "http://a.example", "access-control-request-method": "POST"}


@pytest.fixture(scope="module")
def listed(serve):
    return serve(SCRIPT, KEELWAY_CORS_ORIGINS="http://a.example, http://b.example").wait_ready()


def allowed(answer):
    return answer.headers.get("access-control-allow-origin")


def test_a_preflight_is_answered(listed):
    answer = listed.request("OPTIONS", "/score", headers=PREFLIGHT)

    assert (answer.status, allowed(answer)) == (200, "http://a.example")
    assert set(answer.headers["access-control-allow-methods"].split(", ")) == {"GET", "POST", "OPTIONS"}
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["vary"] == "Origin"


def test_answers_and_errors_may_be_read_by_listed_origins(listed):
    answers = [
        listed.score(b"x", {"origin": "http://b.example"}),
        listed.score(b"\xff", {"origin": "http://b.example"}),
        listed.request("POST", "/nowhere", b"x", {"origin": "http://b.example"}),
    ]

    assert [answer.status for answer in answers] == [200, 400, 404]
    assert {allowed(answer) for answer in answers} == {"http://b.example"}
    assert "x-request-id" in answers[0].headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["http://c.example", "http://a.example.evil", "null", "HTTP://A.EXAMPLE"])
def test_other_origins_are_not_allowed(listed, origin):
    answer = listed.score(b"x", {"origin": origin})

    assert (answer.status, allowed(answer), answer.headers["vary"]) == (200, None, "Origin")


def test_any_origin_may_be_allowed(serve):
    server = serve(SCRIPT, KEELWAY_CORS_ORIGINS="*").wait_ready()

    assert allowed(server.score(b"x", {"origin": "http://z.example"})) == "*"


def test_without_origins_nothing_is_said(echo):
    answer = echo.score(b"x", {"origin": "http://a.example"})

    assert not {name for name in answer.headers if name.startswith("access-control")}


def test_what_the_script_sets_wins(serve):
    server = serve(RAW, KEELWAY_CORS_ORIGINS="*").wait_ready()

    assert allowed(server.score(b"x", {"origin": "http://a.example"})) == "http://script.example"
    assert allowed(server.request("OPTIONS", "/score", headers=PREFLIGHT)) == "*"


def test_a_raw_script_answers_preflights_where_no_origins_are_set(serve):
    answer = serve(RAW).wait_ready().request("OPTIONS", "/score", headers=PREFLIGHT)

    assert (answer.status, answer.body, allowed(answer)) == (200, b"OPTIONS", "http://script.example")
