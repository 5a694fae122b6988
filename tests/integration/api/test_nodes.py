"""Nodes: registered, told what should run, heard of."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.attempt import Attempt, observe
from tests.support.problems import assert_problem
from tests.support.registry import node, service


def shown(api, name):
    return next(found for found in api.admin.get("/v1/nodes").json()["items"] if found["name"] == name)


def test_a_node_says_what_it_has_and_may_say_it_again(api):
    name = node(api, pythons=("3.11.7",))

    node(api, name, pythons=("3.12.1", "3.11.7"))

    assert shown(api, name)["pythons"] == ["3.12.1", "3.11.7"]
    assert shown(api, name)["state"] == "ready"


def test_a_node_that_never_registered_is_told_so(api):
    assert_problem(api.worker.get("/v1/nodes/no-such-node/desired"), "not-found")
    assert_problem(observe(api, "no-such-node"), "not-found")


@pytest.mark.parametrize("name", ["-a", "a b", "a" * 201, "é", "a%00b"])
def test_a_bad_name_is_refused(api, name):
    response = api.worker.put(f"/v1/nodes/{name}", json={"pythons": [], "targets": []})

    assert_problem(response, "invalid-request")


def test_a_new_node_should_run_nothing(api):
    assert api.worker.get(f"/v1/nodes/{node(api)}/desired").json()["replicas"] == []


def test_a_node_that_waits_is_woken_by_a_placement(api, workspace):
    name = node(api)
    seen = api.worker.get(f"/v1/nodes/{name}/desired").json()["generation"]
    attempt = Attempt(api, service(api, workspace)["operation"], node=name)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.worker.get, f"/v1/nodes/{name}/desired", params={"seen": seen, "wait_s": 20})
        [placed] = attempt.place().json()["items"]

        desired = waiting.result().json()

    assert desired["generation"] > seen
    assert [replica["name"] for replica in desired["replicas"]] == [placed["name"]]


def test_a_node_that_waits_in_vain_gets_the_same_again(api):
    name = node(api)
    first = api.worker.get(f"/v1/nodes/{name}/desired").json()

    again = api.worker.get(f"/v1/nodes/{name}/desired", params={"seen": first["generation"], "wait_s": 0.3})

    assert again.json() == first


def test_a_generation_that_fits_no_column_is_refused(api):
    assert_problem(observe(api, node(api), generation=10**12), "invalid-request")
