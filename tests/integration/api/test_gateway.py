"""The gateway's configuration: always a valid one, sent when it changed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.attempt import Attempt, observe, ready
from tests.support.registry import node, service

ROUTES = "/v1/gateway/routes"


@pytest.fixture
def placed(api, workspace):
    """A deployment whose three replicas are placed: (attempt, node, names)."""
    host = node(api)
    made = service(api, workspace, deployment_config={"num_replicas": 3})
    attempt = Attempt(api, made["operation"], node=host)
    return attempt, host, [replica["name"] for replica in attempt.place().json()["items"]]


def servers(api, workspace):
    http = api.gateway.get(ROUTES).json()["http"]
    [router] = [router for router in http["routers"].values() if f"/{workspace}/" in router["rule"]]
    return [server["url"] for server in http["services"][router["service"]]["loadBalancer"]["servers"]]


def test_it_is_never_empty(api):
    assert api.gateway.get(ROUTES).json()["http"]["middlewares"]


def test_what_did_not_change_is_not_sent_again(api):
    first = api.gateway.get(ROUTES)

    again = api.gateway.get(ROUTES, headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


def test_who_waits_is_woken_by_a_change(api, placed):
    attempt, host, names = placed
    observe(api, host, *(ready(name) for name in names))
    etag = api.gateway.get(ROUTES).headers["etag"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.gateway.get, ROUTES, params={"wait_s": 20}, headers={"If-None-Match": etag})
        attempt.activate()

        assert waiting.result().status_code == 200


def test_each_path_of_a_service_is_routed_without_its_prefix(api, workspace, placed):
    attempt, host, names = placed
    observe(api, host, *(ready(name) for name in names))
    attempt.activate()

    http = api.gateway.get(ROUTES).json()["http"]

    [router] = [router for router in http["routers"].values() if f"/{workspace}/" in router["rule"]]
    prefix = f"/{workspace}/ridge-svc"
    wanted = [f"Path(`{prefix}{path}`)" for path in ("/score", "/swagger.json", "/", "")]
    assert router["rule"] == " || ".join(wanted)
    assert http["middlewares"][router["middlewares"][0]] == {"stripPrefix": {"prefixes": [prefix]}}


def test_only_replicas_that_are_ready_get_requests_while_there_are_any(api, workspace, placed):
    attempt, host, names = placed
    first, second, third = names
    gone = {"name": third, "state": "crashed", "url": "http://127.0.0.1:9003"}
    observe(api, host, ready(first, 9001), ready(second, 9002), gone)
    attempt.activate()
    assert servers(api, workspace) == ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]

    observe(api, host, *({"name": name, "state": "crashed", "url": f"http://127.0.0.1:{port}"}
                         for port, name in enumerate(names, 9001)))  # fmt: skip

    # Nobody is ready: callers get 502 from their old addresses, not the 404 of a service that does not exist.
    assert len(servers(api, workspace)) == 3
