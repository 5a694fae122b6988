"""Deploying, scoring and deleting services."""

from __future__ import annotations

from pathlib import Path

import pytest

from keelway.contracts.models import ModelVersion
from keelway.contracts.operations import OperationError, OperationState
from keelway.contracts.services import InferenceConfig, ServiceState
from keelway.errors import AlreadyExists, InvalidInput, OperationFailed, ScoringError, Unreachable
from keelway.inference import InferenceSource
from tests.unit.sdk import samples
from tests.unit.sdk.samples import OPERATION_ID, entry, missing, sha256
from tests.unit.sdk.wire import Answer, Wire, serving

W = "/v1/workspaces/default"
SCRIPT = b"def init(): pass\ndef run(data): return data\n"
LOCATION = {"Location": f"/v1/operations/{OPERATION_ID}"}
READY = InferenceConfig(entry_script="score.py", snapshot="a" * 64, environment="env:1")


@pytest.fixture
def source(tmp_path: Path) -> InferenceSource:
    folder = tmp_path / "src"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "score.py").write_bytes(SCRIPT)
    (folder / "conda.yml").write_text("dependencies: [python=3.11]")
    (folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    (folder / ".git" / "config").write_bytes(b"x")
    (folder / "my-env" / "lib").mkdir(parents=True)
    (folder / "my-env" / "pyvenv.cfg").write_bytes(b"home = /usr/bin")
    (folder / "my-env" / "lib" / "module.py").write_bytes(b"x")
    (folder / ".pytest_cache").mkdir()
    (folder / ".pytest_cache" / "README.md").write_bytes(b"x")
    return InferenceSource(entry_script="score.py", source_directory=folder, conda_file="conda.yml")


def accept(wire: Wire, outcome: Answer) -> None:
    """Have the server take a deployment whose operation ends like this."""
    wanted = [missing("score.py", SCRIPT)]
    wire.on(f"POST {W}/environments/ridge-svc-env/versions", Answer(201, samples.environment()))
    wire.on(f"POST {W}/snapshots", Answer(201, samples.snapshot(wanted)))
    wire.on(f"POST {W}/snapshots/{'a' * 64}/commit", Answer(200, samples.snapshot()))
    wire.on(f"PUT /v1/blobs/{sha256(SCRIPT)}", Answer(201))
    wire.on(f"GET {W}/services", Answer(200, {"items": []}))
    wire.on(f"POST {W}/services", Answer(202, samples.service(ServiceState.TRANSITIONING), LOCATION))
    wire.on(f"GET {W}/services/ridge-svc", Answer(200, samples.service()))
    wire.on(f"GET /v1/operations/{OPERATION_ID}", outcome)


def test_deploying_makes_environment_and_snapshot_and_waits(wire, client, source):
    accept(wire, Answer(body=samples.operation()))
    version = ModelVersion.model_validate(samples.version([entry("m", b"x")]))

    handle = client.services.deploy("ridge-svc", [version, "other"], source)
    assert handle.state == "transitioning"
    service = handle.wait(timeout_s=10)

    assert service.state == handle.state == "healthy"
    created = wire.of("POST", f"{W}/services")[0].json
    assert created["models"] == ["ridge:1", "other:latest"]
    assert created["inference_config"]["environment"] == "ridge-svc-env:1"
    assert created["inference_config"]["snapshot"] == "a" * 64
    manifest = wire.of("POST", f"{W}/snapshots")[0].json["files"]
    assert [file["path"] for file in manifest] == ["conda.yml", "score.py"]


@pytest.mark.parametrize("name", ["My_Service", "ab", "9lives", "ends-", "x" * 33, ""])
def test_a_name_that_no_service_may_have_is_refused_before_anything_is_sent(wire, client, source, name):
    with pytest.raises(InvalidInput, match="is no name for a service: it needs 3 to 32 lower-case letters"):
        client.services.deploy(name, ["ridge:1"], source)

    assert not wire.asked


def test_a_name_that_is_taken_is_refused_before_anything_is_made(wire, client, source):
    wire.on(f"GET {W}/services", Answer(200, {"items": [samples.service()]}))

    with pytest.raises(AlreadyExists, match="service ridge-svc exists"):
        client.services.deploy("ridge-svc", ["ridge:1"], source)

    assert not wire.of("POST")
    assert wire.asked[0].query == "name=ridge-svc"


def test_a_script_that_the_snapshot_leaves_out_is_refused_before_anything_is_made(wire, client, source):
    accept(wire, Answer(body=samples.operation()))
    hidden = InferenceSource(entry_script="my-env/lib/module.py", source_directory=source.source_directory)

    with pytest.raises(InvalidInput, match="leaves out"):
        client.services.deploy("ridge-svc", ["ridge:1"], hidden)

    assert not wire.of("POST")


def test_the_conda_file_is_looked_for_in_the_source_directory(wire, client, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    accept(wire, Answer(body=samples.operation()))
    relative = InferenceSource(entry_script="score.py", source_directory="src", conda_file="conda.yml")

    client.services.deploy("ridge-svc", ["ridge"], relative)

    assert wire.of("POST", f"{W}/environments")[0].json["conda_file"] == "dependencies: [python=3.11]"
    beside = InferenceSource(entry_script="score.py", source_directory="src", conda_file="src/conda.yml")
    with pytest.raises(InvalidInput, match="does not exist"):
        beside.check()


def test_a_failed_deployment_raises_why(wire, client):
    error = OperationError(code="replica-failed", message="init() raised", details={"exit_code": 3})
    accept(wire, Answer(body=samples.operation(OperationState.FAILED, error=error)))

    handle = client.services.deploy("ridge-svc", ["ridge:1"], READY)

    with pytest.raises(OperationFailed, match=r"init\(\) raised"):
        handle.wait()


def test_a_registered_environment_is_used_as_it_is(wire, client, source):
    accept(wire, Answer(body=samples.operation()))
    own = InferenceSource(entry_script="score.py", source_directory=source.source_directory, environment="sklearn")

    client.services.deploy("ridge-svc", ["ridge"], own)

    assert wire.of("POST", f"{W}/services")[0].json["inference_config"]["environment"] == "sklearn:latest"
    assert not wire.of("POST", f"{W}/environments")


@pytest.mark.parametrize(("name", "registered"), [({}, "ridge-svc-env"), ({"name": "its-own"}, "its-own")])
def test_a_definition_is_registered_first(wire, client, source, name, registered):
    accept(wire, Answer(body=samples.operation()))
    wire.on(f"POST {W}/environments/{registered}/versions", Answer(201, samples.environment(registered)))
    definition = {**name, "environmentVariables": {"A": "b"}}
    own = InferenceSource(entry_script="score.py", source_directory=source.source_directory, definition=definition)

    client.services.deploy("ridge-svc", ["ridge"], own)

    sent = wire.of("POST", f"{W}/environments/{registered}")[0].json["definition"]
    assert (sent.get("name"), sent["environmentVariables"]) == (name.get("name"), {"A": "b"})
    created = wire.of("POST", f"{W}/services")[0].json
    assert created["inference_config"]["environment"] == f"{registered}:1"


def test_a_script_without_a_conda_file_gets_an_environment_of_nothing(wire, client, source):
    accept(wire, Answer(body=samples.operation()))
    bare = InferenceSource(entry_script="score.py", source_directory=source.source_directory)

    client.services.deploy("ridge-svc", ["ridge"], bare)

    assert wire.of("POST", f"{W}/environments")[0].json == {"pip_requirements": "", "environment_variables": {}}


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({"entry_script": "nope.py"}, SCRIPT, "does not exist"),
        ({"entry_script": "../out.py"}, SCRIPT, "lies outside"),
        ({}, b"def run(:", "does not parse"),
        ({}, b"\0", "does not parse"),
        ({"entry_script": "my-score.py"}, SCRIPT, "identifier"),
        ({"entry_script": "class.py"}, SCRIPT, "identifier"),
        ({"conda_file": "nope.yml"}, SCRIPT, "does not exist"),
        ({"environment": "e", "conda_file": "conda.yml"}, SCRIPT, "not both"),
        ({"environment": "e", "definition": {}}, SCRIPT, "not both"),
        ({"source_directory": Path("/nope")}, SCRIPT, "not a folder"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(wire, client, tmp_path, *, fields, content, message):
    for name in ("score.py", "my-score.py", "class.py"):
        (tmp_path / name).write_bytes(content)
    (tmp_path.parent / "out.py").write_bytes(content)
    source = InferenceSource(**{"entry_script": "score.py", "source_directory": tmp_path, **fields})

    with pytest.raises(InvalidInput, match=message):
        client.services.deploy("ridge-svc", ["ridge"], source)
    assert not wire.asked


def test_a_name_that_is_none_is_refused_before_anything_is_sent(wire, client):
    with pytest.raises(InvalidInput, match="name"):
        client.services.deploy("No_Name", ["ridge"], READY)
    assert not wire.asked


@pytest.mark.parametrize(
    ("payload", "kind", "sent"),
    [
        ({"data": [[1]]}, "application/json", b'{"data": [[1]]}'),
        ("[1]", "application/json", b"[1]"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
    ],
)
def test_scoring_sends_the_payload_without_our_token(wire, client, payload, kind, sent):
    with serving() as replica:
        replica.on("POST /score", Answer(200, [1.5]))
        wire.on(f"GET {W}/services/ridge-svc", Answer(200, samples.service(scoring_uri=f"{replica.url}/score")))

        assert client.services.run("ridge-svc", payload) == [1.5]

        assert replica.asked[0].headers["content-type"] == kind
        assert replica.asked[0].body == sent
        assert "authorization" not in replica.asked[0].headers


def test_a_scoring_error_carries_status_and_body_and_is_not_repeated(wire, client):
    wire.on("POST /score", Answer(503, {"message": "full"}, {"X-Request-Id": "r1"}))

    with pytest.raises(ScoringError, match="full") as caught:
        client.services.score(f"{wire.url}/score", {})
    assert (caught.value.status, caught.value.request_id) == (503, "r1")
    assert len(wire.asked) == 1


def test_a_service_that_does_not_answer_is_unreachable(client):
    with serving() as gone:
        url = gone.url
    with pytest.raises(Unreachable):
        client.services.score(f"{url}/score", {})


def test_answers_that_are_not_json_come_as_they_are(wire, client):
    wire.on("POST /text", Answer(200, b"hello", {"Content-Type": "text/plain"}))
    wire.on("POST /bytes", Answer(200, b"\x89PNG", {"Content-Type": "image/png"}))

    assert client.services.score(f"{wire.url}/text", {}) == "hello"
    assert client.services.score(f"{wire.url}/bytes", {}) == b"\x89PNG"


@pytest.mark.parametrize("headers", [LOCATION, {}])
def test_deleting_gives_the_operation(wire, client, headers):
    wire.on(f"DELETE {W}/services/ridge-svc", Answer(202, samples.operation(), headers))
    wire.on(f"GET /v1/operations/{OPERATION_ID}", Answer(200, samples.operation()))

    assert client.services.delete("ridge-svc").id == OPERATION_ID


def test_logs_are_asked_for_as_told(wire, client):
    wire.on(f"GET {W}/services/ridge-svc/logs", Answer(200, b"line\n", {"Content-Type": "text/plain"}))

    assert "".join(client.services.logs("ridge-svc", tail=5, replica="r1")) == "line\n"
    assert wire.asked[0].query == "tail=5&replica=r1"
