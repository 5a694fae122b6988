"""`keelway model deploy` and its two files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelway.cli import configs
from keelway.cli.configs import read_deployment, read_inference
from keelway.cli.deploy import service_name
from keelway.contracts.base import MODEL_NAME, SERVICE_NAME
from keelway.contracts.operations import OperationError, OperationState
from keelway.contracts.services import ServiceState
from keelway.errors import InvalidInput
from tests.unit.sdk import samples
from tests.unit.sdk.samples import OPERATION_ID
from tests.unit.sdk.wire import Answer, Wire

W = "/v1/workspaces/default"
SCRIPT = "def init(): pass\ndef run(data): return data\n"


@pytest.fixture
def ic(tmp_path: Path) -> Path:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "score.py").write_text(SCRIPT)
    (tmp_path / "src" / "conda.yml").write_text("dependencies: []")
    return write(tmp_path, entryScript="deep/score.py", runtime="python", condaFile="conda.yml", sourceDirectory="src")


def write(folder: Path, **document: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    return path


def accept(wire: Wire, name: str, *outcome: Answer) -> None:
    for model, version in (("ridge", 1), ("My_Model", 3)):
        answer = samples.version([], id=f"{model}:{version}", name=model, version=version)
        wire.on(f"GET {W}/models/{model}/versions/{version}", Answer(200, answer))
    wire.on(f"POST {W}/environments/{name}-env/versions", Answer(201, samples.environment(f"{name}-env")))
    wire.on(f"POST {W}/snapshots", Answer(201, samples.snapshot()))
    accepted = samples.service(ServiceState.TRANSITIONING, name=name)
    wire.on(f"GET {W}/services", Answer(200, {"items": []}))
    wire.on(f"POST {W}/services", Answer(202, accepted, {"Location": f"/v1/operations/{OPERATION_ID}"}))
    wire.on(f"GET {W}/services/{name}", Answer(200, samples.service(name=name)))
    wire.on(f"GET /v1/operations/{OPERATION_ID}", *outcome)


@given(st.from_regex(MODEL_NAME, fullmatch=True))
def test_every_model_name_makes_a_valid_service_name(model):
    name = service_name(model)

    assert re.match(SERVICE_NAME, name)
    assert 3 <= len(name) <= 32


def test_a_whole_environment_may_stand_in_an_inference_config(tmp_path):
    (tmp_path / "score.py").write_text("")
    document = {"name": "env", "docker": {"baseImage": "x"}}

    assert read_inference(write(tmp_path, entryScript="score.py", environment=document)).definition == document
    for more, environment in (({"environment": "env"}, None), ({"environment": document}, "sklearn")):
        with pytest.raises(InvalidInput, match="environment"):
            read_inference(write(tmp_path, entryScript="score.py", **more), environment=environment)
    with pytest.raises(InvalidInput, match="not both"):
        read_inference(write(tmp_path, entryScript="score.py", condaFile="c.yml", environment=document))


def test_steps_for_a_dockerfile_are_read_from_a_file_beside_the_script(tmp_path):
    (tmp_path / "score.py").write_text("")
    (tmp_path / "steps").write_bytes(b"\xef\xbb\xbfRUN one\r\nRUN two\r\n")
    path = write(tmp_path, entryScript="score.py", extraDockerfileSteps="steps")

    assert read_inference(path).docker_steps() == "RUN one\nRUN two\n"
    (tmp_path / "steps").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_inference(path)
    (tmp_path / "steps").unlink()
    with pytest.raises(InvalidInput, match="does not exist"):
        read_inference(path)


@pytest.mark.parametrize(
    ("model", "service"),
    [("ridge", "ridge"), ("My_Model.v2", "my-model-v2"), ("9lives", "model-9lives"), ("ab", "ab-service")],
)
def test_a_service_name_stays_close_to_the_models(model, service):
    assert service_name(model) == service


def test_deploy_shows_each_step_and_ends_with_the_address(wire, keelway, ic):
    running = samples.operation(OperationState.RUNNING, steps=("build the environment",))
    done = samples.operation(steps=("build the environment", "wait for replicas"))
    accept(wire, "my-model", Answer(body=running), Answer(body=done))

    result = keelway("model", "deploy", "-m", "My_Model:3", "--ic", str(ic))

    assert result.exit_code == 0
    assert "service name: my-model" in result.stderr
    for step in ("environment", "snapshot", "build the environment", "wait for replicas"):
        assert step in result.stderr
    assert result.stderr.count("build the environment") == 1
    assert "1.5 s  wait for replicas" in result.stderr
    assert "http://127.0.0.1:7301/default/ridge-svc/score" in result.stdout
    assert "curl" in result.stdout
    sent = wire.of("POST", f"{W}/services")[0].json
    assert sent["models"] == ["My_Model:3"]
    assert sent["inference_config"]["entry_script"] == "deep/score.py"
    assert sent["deployment_config"].items() >= {"compute_type": "process", "num_replicas": 1}.items()


def test_a_name_that_no_service_may_have_is_said_clearly(wire, keelway, ic):
    result = keelway("model", "deploy", "-n", "My_Service", "-m", "ridge:1", "--ic", str(ic))

    assert result.exit_code == 1
    assert "'My_Service' is no name for a service" in " ".join(result.stderr.split())
    assert not wire.of("POST")


def test_a_name_that_is_taken_leaves_nothing_behind(wire, keelway, ic):
    accept(wire, "ridge", Answer(body=samples.operation()))
    wire.on(f"GET {W}/services", Answer(200, {"items": [samples.service(name="ridge")]}))

    result = keelway("model", "deploy", "-m", "ridge:1", "--ic", str(ic))

    assert result.exit_code == 1
    assert "service ridge exists" in " ".join(result.stderr.split())
    assert not wire.of("POST")


def test_a_failed_deployment_prints_why_and_ends_with_1(wire, keelway, ic):
    error = OperationError(
        code="replica-failed",
        message="The entry script could not be loaded",
        details={"exit_code": 3, "traceback": "ValueError: [no] model"},
        log_tail=["last line"],
    )
    accept(wire, "ridge", Answer(body=samples.operation(OperationState.FAILED, error=error)))

    result = keelway("model", "deploy", "-m", "ridge:1", "--ic", str(ic))

    assert (result.exit_code, result.stdout) == (1, "")
    for part in ("could not be loaded", "exit code: 3", "ValueError: [no] model", "last line"):
        assert part in result.stderr
    document = json.loads(
        keelway("model", "deploy", "-m", "ridge:1", "--ic", str(ic), "--json")
        .stderr.partition("\n{")[2]
        .join(["{", ""])
    )
    assert (document["code"], document["operation"]) == ("replica-failed", OPERATION_ID)


def test_no_wait_only_starts_it(wire, keelway, ic):
    accept(wire, "svc", Answer(body=samples.operation(OperationState.QUEUED)))

    result = keelway("model", "deploy", "-n", "svc", "-m", "ridge:1", "--ic", str(ic), "--no-wait")

    assert result.exit_code == 0
    assert OPERATION_ID in result.stdout
    assert not wire.of("GET", "/v1/operations")


def test_a_registered_environment_stands_in_for_the_conda_file(wire, keelway, tmp_path):
    (tmp_path / "score.py").write_text(SCRIPT)
    ic = write(tmp_path, entryScript="score.py")
    accept(wire, "svc", Answer(body=samples.operation()))

    result = keelway(
        "model", "deploy", "-n", "svc", "-m", "ridge:1", "--ic", str(ic), "-e", "sklearn", "--ev", "4", "--json"
    )

    assert json.loads(result.stdout)["state"] == "healthy"
    assert wire.of("POST", f"{W}/services")[0].json["inference_config"]["environment"] == "sklearn:4"


def test_the_environments_version_needs_an_environment(keelway, ic):
    assert keelway("model", "deploy", "-m", "a:1", "--ic", str(ic), "--ev", "4").exit_code == 2


def test_paths_are_relative_to_the_file_and_to_the_source_directory(ic, tmp_path):
    source = read_inference(ic)

    assert source.source_directory == tmp_path / "src"
    assert source.conda_path == tmp_path / "src" / "conda.yml"


@pytest.mark.parametrize("key", sorted(configs._INFERENCE_LATER))
def test_a_key_that_does_not_work_yet_is_named(tmp_path, key):
    with pytest.raises(InvalidInput, match=f"{key}.*does not work yet"):
        read_inference(write(tmp_path, entryScript="score.py", **{key: "x"}))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"entryscript": "score.py"}, "'entryscript' is no key"),
        ({"runtime": "python"}, "entryScript is missing"),
        ({"entryScript": 1}, "entryScript must be a string"),
        ({"entryScript": "score.py", "runtime": "spark-py"}, "spark-py"),
        ({"entryScript": "nope.py"}, "does not exist"),
        ({"entryScript": "bad.py"}, "does not parse"),
        ({"entryScript": "score.py", "condaFile": "nope.yml"}, "nope.yml does not exist"),
        ({"entryScript": "score.py", "sourceDirectory": "nope"}, "not a folder"),
    ],
)
def test_what_is_wrong_with_an_inference_config_is_said(tmp_path, document, message):
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "bad.py").write_text("def run(:")

    with pytest.raises(InvalidInput, match=message):
        read_inference(write(tmp_path, **document))


def test_a_default_that_is_spelled_out_asks_for_nothing(tmp_path):
    (tmp_path / "score.py").write_text(SCRIPT)

    source = read_inference(write(tmp_path, entryScript="score.py", enableGpu=False, baseImage=None))

    assert source.entry_script == "score.py"


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_file_that_is_no_json_object_is_said(tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="latin-1")

    with pytest.raises(InvalidInput, match=r"x\.json"):
        read_inference(tmp_path / "x.json")


def test_a_model_that_is_not_there_leaves_nothing_behind(wire, keelway, ic):
    accept(wire, "nope", Answer(body=samples.operation()))

    assert keelway("model", "deploy", "-m", "nope:1", "--ic", str(ic)).exit_code == 1
    assert not wire.of("POST")


def test_nothing_is_sent_when_a_file_is_wrong(wire, keelway, ic, tmp_path):
    (tmp_path / "src" / "deep" / "score.py").write_text("def run(:")

    result = keelway("model", "deploy", "-m", "ridge:1", "--ic", str(ic))

    assert result.exit_code == 1
    assert "does not parse" in result.stderr
    assert not wire.asked


@pytest.mark.parametrize(
    ("document", "replicas"),
    [({}, 1), ({"computeType": "local"}, 1), ({"computeType": "process", "numReplicas": 3}, 3)],
)
def test_deployment_configs_that_work(tmp_path, document, replicas):
    config = read_deployment(write(tmp_path, **document))

    assert (config.compute_type, config.num_replicas) == ("process", replicas)


@pytest.mark.parametrize("compute", ["docker", "aci", "ACI"])
def test_containers_get_what_the_config_says_or_the_old_defaults(tmp_path, compute):
    config = read_deployment(write(tmp_path, computeType=compute))
    assert config.compute_type == "docker"
    assert (config.resources.cpu, config.resources.memory_gb) == (0.1, 0.5)

    said = {"cpu": 0.5, "memoryInGB": 1, "cpuLimit": 2, "memoryInGBLimit": 1.5}
    config = read_deployment(write(tmp_path, computeType=compute, containerResourceRequirements=said))
    assert (config.resources.most_cpu, config.resources.most_memory_bytes) == (2, 3 * 512 * 1024**2)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"computeType": "docker", "containerResourceRequirements": 1}, "must be an object"),
        ({"computeType": "docker", "containerResourceRequirements": {"gpu": 1}}, "'gpu' is no key"),
        ({"computeType": "docker", "containerResourceRequirements": {"cpu": "lots"}}, "cpu"),
        ({"containerResourceRequirements": {"cpu": 1}}, "go with compute_type 'docker'"),
        ({"computeType": "aks"}, "'aks' does not work yet"),
        ({"computeType": "moon"}, "'moon' is unknown"),
        ({"computeType": "local", "port": 6789}, "'port' does not work yet"),
        ({"cpu": 1}, "'cpu' is no key"),
        ({"numReplicas": 0}, "numReplicas"),
        ({"numReplicas": "2"}, "numReplicas must be a whole number"),
        ({"numReplicas": True}, "numReplicas must be a whole number"),
    ],
)
def test_what_is_wrong_with_a_deployment_config_is_said(tmp_path, document, message):
    with pytest.raises(InvalidInput, match=message):
        read_deployment(write(tmp_path, **document))
