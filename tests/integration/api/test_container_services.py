"""Services that run in containers, as the API keeps them: what their node is told, and what is refused."""

from __future__ import annotations

import pytest

from tests.support.attempt import IMAGE, Attempt, image_result, observe, ready
from tests.support.problems import assert_problem, paths_of
from tests.support.registry import node, service, service_body, unique_bytes


@pytest.fixture
def host(api):
    """A node of this test's own."""
    return node(api)


def contained(**more):
    return {"deployment_config": {"compute_type": "docker", **more}}


def test_a_node_is_told_the_image_with_its_files_and_what_the_container_gets(api, workspace, w, host):
    resources = {"cpu": 0.5, "memory_gb": 1.5, "cpu_limit": 2}
    made = service(api, workspace, **contained(container_resources=resources))
    attempt = Attempt(api, made["operation"], node=host)
    assert attempt.claim["spec"]["base"]["base_image"] is None  # the node's default
    assert attempt.claim["spec"]["replica"]["image"] is None
    digest = attempt.store({"index.json": unique_bytes()})

    placed = attempt.place(image=IMAGE, built=image_result(digest))

    assert placed.status_code == 200, placed.text
    [spec] = api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"]
    assert spec["target"] == "docker"
    assert (spec["image"]["identity"], spec["image"]["image_id"]) == (IMAGE, "sha256:1")
    assert [file["path"] for file in spec["image"]["files"]] == ["index.json"]
    assert spec["resources"] == {**resources, "memory_gb_limit": None}
    assert api.admin.get(f"{w}/images/{IMAGE}").json()["environment"] == "env:1"
    assert attempt.place(image=IMAGE, built=image_result(digest)).json() == placed.json()


def test_an_image_is_in_use_until_its_service_is_gone(api, workspace, w, host):
    attempt = Attempt(api, service(api, workspace, **contained())["operation"], node=host)
    digest = attempt.store({"index.json": unique_bytes()})
    [replica] = attempt.place(image=IMAGE, built=image_result(digest)).json()["items"]
    observe(api, host, ready(replica["name"]))
    attempt.activate()
    attempt.end()

    refused = assert_problem(api.admin.delete(f"{w}/images/{IMAGE}"), "in-use")
    assert refused["used_by"] == ["services/ridge-svc"]
    deletion = Attempt(api, api.admin.delete(f"{w}/services/ridge-svc").json()["id"], node=host)
    observe(api, host)
    deletion.end()

    assert api.admin.delete(f"{w}/images/{IMAGE}").status_code == 204


def test_a_service_in_a_process_has_neither_image_nor_resources(api, workspace, host):
    attempt = Attempt(api, service(api, workspace)["operation"], node=host)
    attempt.place()

    [spec] = api.worker.get(f"/v1/nodes/{host}/desired").json()["replicas"]

    assert (spec["image"], spec["resources"], attempt.claim["spec"]["base"]) == (None, None, None)


def test_an_image_s_own_python_runs_in_a_container(api, workspace, w, host):
    body = service_body(api, workspace, **contained())
    own = {"user_managed_dependencies": True, "base_image": "ours:1"}
    assert api.admin.post(f"{w}/environments/own/versions", json=own).status_code == 201
    body["inference_config"]["environment"] = "own:1"

    made = api.admin.post(f"{w}/services", json=body)

    assert made.status_code == 202, made.text
    claim = Attempt(api, made.json()["operation"], node=host).claim
    assert claim["spec"]["base"]["is_user_managed"]
    assert "keelway" not in claim["spec"]["replica"]["environment"]["lock"].lower()
    assert claim["spec"]["replica"]["environment"]["lock"]  # what the runtime needs beside the image's packages


@pytest.mark.parametrize(
    ("config", "path", "says"),
    [
        ({"container_resources": {"cpu": 1}}, "body.deployment_config", "compute_type 'docker'"),
        (
            {"compute_type": "docker", "container_resources": {"cpu": 2, "cpu_limit": 1}},
            "body.deployment_config.container_resources",
            "cpu_limit 1 is less than cpu 2",
        ),
        (
            {"compute_type": "docker", "container_resources": {"memory_gb": 2, "memory_gb_limit": 1.5}},
            "body.deployment_config.container_resources",
            "memory_gb_limit 1.5 is less than memory_gb 2",
        ),
        (
            {"compute_type": "docker", "container_resources": {"memory_gb": 0}},
            "body.deployment_config.container_resources.memory_gb",
            "",
        ),
        ({"compute_type": "docker", "collect_model_data": True}, "body.deployment_config", "'process' alone"),
        ({"compute_type": "moon"}, "body.deployment_config.compute_type", "'docker'"),
    ],
)
def test_what_does_not_go_together_is_refused(api, workspace, w, config, path, says):
    refused = api.admin.post(f"{w}/services", json=service_body(api, workspace, deployment_config=config))

    assert path in paths_of(assert_problem(refused, "invalid-request"))
    assert says in refused.text


def test_steps_of_a_dockerfile_are_for_packages(api, workspace, w):
    body = service_body(api, workspace, **contained())
    body["inference_config"]["extra_docker_file_steps"] = "RUN true"

    refused = assert_problem(api.admin.post(f"{w}/services", json=body), "invalid-request")

    assert paths_of(refused) == ["body.inference_config.extra_docker_file_steps"]
