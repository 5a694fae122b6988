"""The query of a request: what a route does not know is refused, never ignored."""

import pytest

from keelway_api.app import create_app
from tests.support.problems import assert_problem, paths_of
from tests.support.routes import PUBLIC, all_routes, filled, settings

DECLARED = [
    (method.upper(), path, parameter["name"])
    for path, item in create_app(settings()).openapi()["paths"].items()
    for method, operation in item.items()
    for parameter in operation.get("parameters", [])
    if parameter["in"] == "query"
]


@pytest.mark.parametrize(("method", "template"), all_routes())
def test_every_route_refuses_a_parameter_that_it_does_not_declare(api, method, template):
    documented = template.replace(":path}", "}")
    known = sorted(name for *route, name in DECLARED if route == [method, documented])
    http = api.nobody if template in PUBLIC else api.admin

    response = http.request(method, filled(template), params={"no_such_parameter": "x"})

    document = assert_problem(response, "invalid-request")
    assert paths_of(document) == ["query.no_such_parameter"]
    assert ("known are " + ", ".join(known) if known else "this path takes none") in document["detail"]


@pytest.mark.parametrize(("method", "template", "name"), DECLARED)
def test_no_route_refuses_what_it_declares_as_unknown(api, method, template, name):
    response = api.admin.request(method, filled(template), params={name: "1"})

    assert "not a query parameter" not in response.text


def test_a_mistyped_filter_is_named_and_nothing_is_listed(api):
    response = api.admin.get("/v1/operations", params={"limit": 1, "subjekt": "services/a", "stat": "queued"})

    document = assert_problem(response, "invalid-request")
    assert paths_of(document) == ["query.stat", "query.subjekt"]
    assert "subject" in document["detail"]


def test_a_flood_of_parameters_is_not_answered_with_a_flood(api):
    response = api.admin.get("/v1/whoami?" + "&".join(f"p{n}{'x' * 500}=1" for n in range(100)))

    assert len(assert_problem(response, "invalid-request")["errors"]) == 20
    assert len(response.content) < 10_000


def test_a_route_that_is_not_there_stays_unknown_whatever_its_query(api):
    assert_problem(api.admin.get("/v1/nothing?x=1"), "not-found")
    assert_problem(api.admin.delete("/v1/whoami?x=1"), "method-not-allowed")
