"""Paths, addresses and names of somebody else's, in every parameter and every text of every route of a workspace."""

from __future__ import annotations

import base64
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keelway import signing
from keelway.contracts.files import FileEntry
from tests.support import runs
from tests.support.attempt import IMAGE, Attempt, image_result, observe, package_result, ready
from tests.support.canary import Canary
from tests.support.canary import canary as make_canary
from tests.support.registry import manifest, node, register, service, sha256, snapshot
from tests.support.wheels import file_name, wheel

DOCUMENT = json.loads((Path(__file__).parents[2] / "openapi" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if path.startswith(("/v1/workspaces/{workspace}/", "/v1/blobs/"))
]
IDS = [f"{method} {path}" for method, path, _ in OPERATIONS]
MODEL, KNOWN = b"bytes of a model", b"known"
PRIVATE = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

PEOPLE_SAY = {"description": "x", "tags": {"a": "b"}, "properties": {"c": "d"}}
ABOUT = {
    **PEOPLE_SAY,
    "framework": "Onnx",
    "framework_version": "1",
    "resource_requirements": {"cpu": 1, "memory_gb": 1, "gpu": 1},
    "datasets": [{"scenario": "training", "id": "d"}],
    "sample_input": {"data": ["a"]},
    "sample_output": ["a"],
    "requires_approval": False,
}
RUN = "/v1/workspaces/{workspace}/experiments/{experiment}/runs/{run}"
VERSION = "/v1/workspaces/{workspace}/models/{name}/versions/{version}"
ENVIRONMENTS = "/v1/workspaces/{workspace}/environments/{name}/versions"
ABOUT_LATER = {name: ABOUT[name] for name in ABOUT if not name.startswith("framework") and name != "requires_approval"}
FILES = [{"path": "m/new.pkl", "size_bytes": len(MODEL), "sha256": sha256(MODEL)}]


REGISTRY = {"address": "r.example", "username": "me", "password": "kept"}


def definition(made: dict[str, str]) -> dict[str, Any]:
    """An environment of the old system that says all it can; what only the old system does something with is free."""
    context = {"locationType": "snapshot", "location": made["digest"], "dockerfilePath": "score.py"}
    return {
        "name": "e", "version": "1", "environmentVariables": {"A": "b"},
        "python": {
            "userManagedDependencies": False, "interpreterPath": "python", "condaDependenciesFile": None,
            "baseCondaEnvironment": None, "condaDependencies": {"dependencies": ["python=3.11", {"pip": ["six"]}]},
        },
        "docker": {
            "enabled": False, "baseImage": None, "baseDockerfile": None, "buildContext": context, "sharedVolumes": True,
            "shmSize": "2g", "arguments": ["-x"], "baseImageRegistry": REGISTRY,
            "platform": {"os": "Linux", "architecture": "amd64"},
        },
        "spark": {"repositories": ["x"], "packages": [], "precachePackages": True},
        "databricks": {"mavenLibraries": []}, "r": {"x": "y"}, "inferencingStackVersion": "latest", "assetId": "x",
    }  # fmt: skip


def bases(made: dict[str, str]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Bodies that are taken as they are, by route: together they say all that can be said."""
    best = {"primary_metric": "auc", "goal": "maximize"}
    return {
        ("POST", ENVIRONMENTS): [
            {"pip_requirements": "", "python_version": "3.11", "environment_variables": {"A": "b"}},
            {"conda_file": "dependencies:\n- python=3.11\n- pip:\n  - azureml-defaults\n"},
            {"definition": definition(made), "real_azureml": False, "wheels": made["wheels"]},
            {"user_managed_dependencies": True, "base_image": "r.example/x:1", "base_image_registry": REGISTRY},
            {"pip_requirements": "", "dockerfile": "FROM x"},
            {"pip_requirements": "", "build_context": {"snapshot": made["digest"], "dockerfile": "score.py"}},
        ],
        ("POST", f"{ENVIRONMENTS}/{{version}}/build"): [{"target": "docker"}, {"target": "process"}],
        ("POST", RUN.removesuffix("/{run}")): [
            {"id": "made", "parent": "search", "iteration": 7, "display_name": "x", **best, **PEOPLE_SAY},
        ],
        ("PATCH", RUN): [{"state": "running", "display_name": "x", **best, **PEOPLE_SAY}],
        ("POST", f"{RUN}/metrics"): [{"metrics": [{"name": "auc", "value": 0.5, "step": 1}]}],
        ("POST", f"{RUN}/outputs"): [{"files": FILES}],
        ("POST", f"{RUN}/register"): [{"name": "forest", "model_path": "best/m.pkl", **ABOUT}],
        ("POST", f"{RUN}/register-best"): [
            {"name": "best", "model_path": "best", "iteration": 0, **ABOUT},
            {"model_path": "best", "metric": "auc", "goal": "maximize"},
        ],
        ("PUT", "/v1/workspaces/{workspace}/models/{name}/aliases/{alias}"): [{"version": 1}, {"version": "latest"}],
        ("POST", VERSION.removesuffix("/{version}")): [{"files": FILES, **ABOUT}],
        ("PATCH", VERSION): [ABOUT_LATER],
        ("POST", "/v1/workspaces/{workspace}/services"): [
            {
                "name": "other-svc",
                "models": ["ridge:1"],
                "inference_config": {
                    "entry_script": "score.py", "snapshot": made["digest"], "environment": "env:1", "description": "x",
                },
                "deployment_config": {"compute_type": "process", "num_replicas": 1, "collect_model_data": False},
                **PEOPLE_SAY,
            },
            {
                "name": "third-svc",
                "models": ["ridge:1"],
                "inference_config": {"entry_script": "score.py", "snapshot": made["digest"], "environment": "env:1"},
                "deployment_config": {
                    "compute_type": "docker",
                    "container_resources": {"cpu": 0.1, "memory_gb": 0.5, "cpu_limit": 1, "memory_gb_limit": 1},
                },
            },
        ],
        # What it runs already: no revision is brought up, and it stays ready for the next body.
        ("PATCH", "/v1/workspaces/{workspace}/services/{name}"): [
            {
                "models": ["ridge:1"],
                "inference_config": {"entry_script": "score.py", "snapshot": made["digest"], "environment": "env:1"},
                "deployment_config": {"compute_type": "process", "num_replicas": 1, "collect_model_data": False},
            },
            PEOPLE_SAY,
        ],
        ("POST", "/v1/workspaces/{workspace}/services/{name}/rollback"): [{"revision": "r1"}],
        ("POST", "/v1/workspaces/{workspace}/packages"): [
            {
                "models": ["ridge:1"], "kind": "dockerfile", "image_name": "team/ridge",
                "image_label": uuid.uuid4().hex,
                "inference_config": {
                    "entry_script": "score.py", "snapshot": made["digest"], "environment": "env:1", "description": "x",
                    "extra_docker_file_steps": "RUN echo x",
                },
            },
        ],
        ("POST", "/v1/workspaces/{workspace}/snapshots"): [{"files": FILES}],
    }  # fmt: skip


# Texts for people, and data: anything may stand there, and is kept as it is.
FREE = {
    *("description", "display_name", "tags", "properties", "framework", "framework_version", "datasets"),
    *("sample_input", "sample_output", "environment_variables", "environmentVariables"),
    *("username", "password", "spark", "databricks", "r", "assetId", "arguments"),
    "interpreterPath",  # in an image
}
# Answered by something else than success although all is as it should be.
NOT_THERE = {
    ("GET", "/v1/blobs/{sha256}"),  # for workers only
    ("GET", "/v1/workspaces/{workspace}/services/{name}/collected/{path}"),  # needs a replica that collected
    ("GET", "/v1/blobs/{sha256}/upload"),  # asks for a size
    ("PUT", "/v1/blobs/{sha256}"),  # has bytes
    ("POST", "/v1/workspaces/{workspace}/experiments/{experiment}/runs/{run}/outputs/{upload}/commit"),
    ("POST", "/v1/workspaces/{workspace}/models/{name}/versions:upload"),
    ("PUT", f"{VERSION}/signature"),
}


@pytest.fixture(autouse=True)
def host(api) -> None:
    """A node that was just heard of: environments are resolved for one."""
    node(api, "fields-node")


@pytest.fixture(scope="module")
def canary(tmp_path_factory) -> Iterator[Canary]:
    with make_canary(tmp_path_factory.mktemp("canary")) as made:
        yield made


@pytest.fixture(scope="module")
def logged_before(api) -> int:
    """Bytes of the log that were there before: other tests break the API on purpose."""
    return api.log.stat().st_size


@pytest.fixture(scope="module")
def made(api, logged_before) -> dict[str, str]:
    """A workspace with one of everything: what there is for each parameter of a path."""
    workspace = api.workspace()
    w = f"/v1/workspaces/{workspace}"
    node(api, "fields-node")
    deployed = service(api, workspace)  # of ridge:1, with an environment and a snapshot
    bring_up(api, deployed["operation"])
    for name in ("back-svc", "again-svc"):
        bring_up(api, service(api, workspace, name=name, models=["ridge:1"])["operation"])
    changed = {"deployment_config": {"num_replicas": 2}}
    bring_up(api, api.admin.patch(f"{w}/services/back-svc", json=changed).json()["operation"])
    runs.run(api.admin, w, "train", id="search", primary_metric="auc", goal="maximize")
    child = runs.run(api.admin, w, "train", id="r1", parent="search", iteration=0)
    runs.report(api.admin, w, child, auc=0.5)
    outputs = runs.outputs(api.admin, w, child, {"best/m.pkl": KNOWN})
    register(api.admin, w, "signed", {"m.pkl": MODEL})
    assert api.admin.put(f"{w}/models/signed/versions/1/signature", content=signature()).status_code == 200
    assert api.admin.put(f"{w}/models/signed/aliases/champion", json={"version": 1}).status_code == 200
    image = Attempt(
        api, api.admin.post(f"{w}/environments/env/versions/1/build", json={"target": "docker"}).json()["id"]
    )
    image.end(result=image_result(image.store({"sbom.cdx.json": b"{}"})))
    package = packaged(api, w, deployed["inference_config"])
    return {
        **{
            "workspace": workspace,
            "identity": IMAGE,
            "package_id": package,
            "version": "1",
            "alias": "champion",
            "experiment": "train",
            "run": "r1",
        },
        **{"path": "m.pkl", "upload": outputs["id"], "sha256": sha256(MODEL)},
        "digest": deployed["inference_config"]["snapshot"],
        "wheels": snapshot(api.admin, w, {file_name("acme"): wheel("acme")})["digest"],
    }


def bring_up(api, operation: str) -> None:
    """Play a worker and a node until a deployment has succeeded."""
    attempt = Attempt(api, operation, node="fields-node")
    replicas = attempt.place().json()["items"]
    observe(api, "fields-node", *(ready(replica["name"]) for replica in replicas))
    assert attempt.activate().status_code == 204
    attempt.end()


def packaged(api, w: str, inference_config: dict[str, Any]) -> str:
    """The id of a package that can be had."""
    inference = {name: inference_config[name] for name in ("entry_script", "snapshot", "environment")}
    package = api.admin.post(f"{w}/packages", json={"models": ["ridge:1"], "inference_config": inference}).json()
    attempt = Attempt(api, package["operation"])
    attempt.end(result=package_result(attempt.store({"sbom.cdx.json": b"{}"}), pushed="r.example/x:1"))
    return package["id"]


def signature() -> str:
    return signing.sign("signed", [FileEntry(**file) for file in manifest({"m.pkl": MODEL})], PRIVATE)


def name_in(path: str) -> str:
    kinds = {"/environments/": "env", "/rollback": "back-svc", "/restart": "again-svc", "/services/": "ridge-svc"}
    return next((name for kind, name in kinds.items() if kind in path), "signed")


def path_of(template: str, made: dict[str, str], **given: str) -> str:
    """A path, with what there is for each parameter that is not given."""
    run = {"run": "search"} if template.endswith("register-best") else {}
    values = {**made, "name": name_in(template), **run, **given}
    parts = template.replace(":path}", "}").split("{")
    filled = [values.get(part.split("}")[0], "x") + part.split("}")[1] for part in parts[1:]]
    return parts[0] + "".join(filled)


# Query parameters without which nothing is answered.
NEEDED = {"/v1/workspaces/{workspace}/environments/{name}/versions/{version}/lock/diff": "?from=1"}


def ask(api, method: str, url: str, **more: Any) -> httpx2.Response:
    # One that waits for news is told to wait for nothing; one that streams is not read to its end.
    with api.admin.stream(method, url, **more) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.read()
        return response


def send(api, made: dict[str, str], method: str, path: str, body: Any) -> httpx2.Response:
    headers = {"Content-Type": "application/json"}
    return ask(api, method, path_of(path, made), content=json.dumps(body), headers=headers)


def parameters(operation: dict[str, Any], place: str) -> list[str]:
    return [one["name"] for one in operation.get("parameters", []) if one["in"] == place]


def as_meant(response: httpx2.Response, canary: Canary) -> None:
    """Whatever the answer is, it is one that was meant."""
    # A name may be that of a conda package, which is looked for where it is to be had.
    assert response.status_code < 500 or "conda-channel" in response.text, said(response)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        assert canary.text not in response.text


def refused(response: httpx2.Response, canary: Canary) -> None:
    """It is no success either."""
    as_meant(response, canary)
    assert response.status_code >= 400, said(response)


def said(response: httpx2.Response) -> str:
    return f"{response.request.url}: {response.request.content[:2000]!r}: {response.text}"


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_no_parameter_is_a_path_or_an_address(api, made, canary, method, path, operation):
    for name in parameters(operation, "path"):
        for payload in set(canary.payloads) - {".."}:  # the client itself would go up
            sent = quote(payload.encode("utf-8", "surrogatepass"), safe="")
            answer = ask(api, method, path_of(path, made, **{name: sent}))
            (refused if payload in canary.ways_out else as_meant)(answer, canary)
    for name in parameters(operation, "query"):
        for payload in canary.payloads:
            sent = quote(payload.encode("utf-8", "surrogatepass"), safe="")
            as_meant(ask(api, method, f"{path_of(path, made)}?{name}={sent}"), canary)

    assert (canary.was_opened, canary.was_asked) == (False, False)


WITHOUT_BODY = [
    (method, path)
    for method, path, operation in OPERATIONS
    if "requestBody" not in operation and method != "DELETE" and (method, path) not in NOT_THERE
]


@pytest.mark.parametrize(("method", "path"), WITHOUT_BODY, ids=[" ".join(one) for one in WITHOUT_BODY])
def test_each_of_these_paths_is_there_without_a_payload(api, made, method, path):
    answer = ask(api, method, path_of(path, made) + NEEDED.get(path, ""))

    assert answer.status_code < 300, answer.text


WITH_BODY = [
    (method, path, content["application/json"]["schema"])
    for method, path, operation in OPERATIONS
    if "application/json" in (content := operation.get("requestBody", {}).get("content", {}))
]
EACH_WITH_BODY = pytest.mark.parametrize(
    ("method", "path", "schema"), WITH_BODY, ids=[f"{method} {path}" for method, path, _ in WITH_BODY]
)


@EACH_WITH_BODY
def test_each_body_says_all_and_is_taken_without_a_payload(api, made, method, path, schema):
    bodies = bases(made)[method, path]

    said = {name for body in bodies for name in body}
    answers = [send(api, made, method, path, body) for body in bodies]

    reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]  # a body that may be left away
    assert said == SCHEMAS[reference.rsplit("/", 1)[1]]["properties"].keys()
    assert [answer.text for answer in answers if answer.status_code >= 300] == []


@EACH_WITH_BODY
def test_no_text_of_a_body_is_a_path_or_an_address(api, made, canary, method, path, schema):
    for body in bases(made)[method, path]:
        for payload in canary.payloads:
            node(api, "fields-node")  # all of this takes longer than a node may be silent
            for where, changed in variants(body, payload):
                is_free = not FREE.isdisjoint(where)
                if is_free and payload not in canary.few:
                    continue
                answer = send(api, made, method, path, changed)
                is_strict = payload in canary.ways_out and not is_free
                (refused if is_strict else as_meant)(answer, canary)

    assert (canary.was_opened, canary.was_asked) == (False, False)


def variants(value: Any, payload: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The same but for one text, number or key, which is the payload; and where that is."""
    if isinstance(value, dict):
        for name, inner in value.items():
            for where, changed in variants(inner, payload):
                yield (name, *where), {**value, name: changed}
            yield (name,), {**{key: kept for key, kept in value.items() if key != name}, payload: inner}
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            for where, changed in variants(inner, payload):
                yield where, [*value[:number], changed, *value[number + 1 :]]
    else:
        yield (), payload


def form(filename: str, about: Any, part: str = "file") -> tuple[bytes, dict[str, str]]:
    """A form as somebody would write it who keeps to no library."""
    head = f'--b\r\nContent-Disposition: form-data; name="{part}"; filename="{filename}"\r\n\r\n'
    said = f'--b\r\nContent-Disposition: form-data; name="about"\r\n\r\n{json.dumps(about)}\r\n--b--\r\n'
    content = head.encode("utf-8", "surrogatepass") + uuid.uuid4().bytes + b"\r\n" + said.encode()
    return content, {"Content-Type": "multipart/form-data; boundary=b"}


UPLOAD = "/v1/workspaces/{workspace}/models/{name}/versions:upload"


def upload(api, made: dict[str, str], *what: Any) -> httpx2.Response:
    content, headers = form(*what)
    return ask(api, "POST", path_of(UPLOAD, made), content=content, headers=headers)


def test_no_text_of_a_form_is_a_path_or_an_address(api, made, canary):
    assert upload(api, made, "m.pkl", ABOUT).status_code == 201
    for payload in canary.payloads:
        is_way_out = payload in canary.ways_out
        (refused if is_way_out else as_meant)(upload(api, made, payload, ABOUT), canary)
        (refused if is_way_out else as_meant)(upload(api, made, "m.pkl", ABOUT, payload), canary)
        for where, changed in variants(ABOUT, payload) if payload in canary.few else ():
            is_strict = is_way_out and where[0] not in FREE
            (refused if is_strict else as_meant)(upload(api, made, "m.pkl", changed), canary)

    assert (canary.was_opened, canary.was_asked) == (False, False)


# What is for those who verify, and not looked at here.
UNREAD = {"verificationMaterial", "sig", "keyid"}


def test_no_text_of_a_signature_is_a_path_or_an_address(api, made, canary):
    bundle = json.loads(signature())
    said = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    path = path_of(f"{VERSION}/signature", made)
    assert ask(api, "PUT", path, content=json.dumps(bundle)).status_code == 200
    for payload in {*canary.ways_out, *canary.few}:
        for where, changed in variants(bundle, payload) if payload in canary.few else ():
            is_strict = payload in canary.ways_out and not UNREAD & set(where)
            (refused if is_strict else as_meant)(ask(api, "PUT", path, content=json.dumps(changed)), canary)
        for _, changed in variants(said, payload):
            inner = base64.b64encode(json.dumps(changed).encode()).decode()
            envelope = {**bundle["dsseEnvelope"], "payload": inner}
            as_meant(ask(api, "PUT", path, content=json.dumps({**bundle, "dsseEnvelope": envelope})), canary)

    assert (canary.was_opened, canary.was_asked) == (False, False)


def test_a_canary_that_is_opened_or_asked_is_noticed(tmp_path):
    with make_canary(tmp_path) as canary:
        assert (canary.was_opened, canary.was_asked) == (False, False)

        canary.file.read_bytes()
        socket.create_connection(("127.0.0.1", canary.port)).close()

        assert canary.was_opened
        for _ in range(100):
            if canary.was_asked:
                break
            threading.Event().wait(0.02)
        assert canary.was_asked


def test_the_services_logged_no_mistake(api, made, logged_before):
    lines = api.log_lines(since=logged_before)
    assert [line for line in lines if line.get("level") == "error" and line.get("status") != 503] == []
