"""`keelway service`, `environment` and `operation`."""

from __future__ import annotations

import json

import pytest

from keelway.contracts.operations import OperationError, OperationState
from tests.unit.sdk import samples
from tests.unit.sdk.samples import OPERATION_ID
from tests.unit.sdk.wire import Answer

W = "/v1/workspaces/default"
SERVICE = f"{W}/services/ridge-svc"
OPERATION = f"/v1/operations/{OPERATION_ID}"


@pytest.fixture
def scoring(wire):
    wire.on("POST /score", Answer(200, {"result": [1.5]}))
    wire.on(f"GET {SERVICE}", Answer(200, samples.service(scoring_uri=f"{wire.url}/score")))
    return wire


def test_list_and_show(scoring, keelway):
    scoring.on(f"GET {W}/services", Answer(body={"items": [samples.service()]}))

    assert "healthy" in keelway("service", "list").stdout
    assert json.loads(keelway("service", "list", "--json").stdout)[0]["name"] == "ridge-svc"
    assert "scoring uri" in keelway("service", "show", "-n", "ridge-svc").stdout


def test_run_sends_json_and_prints_the_answer(scoring, keelway, tmp_path):
    (tmp_path / "body.json").write_text('{"data": [[2]]}')

    plain = keelway("service", "run", "ridge-svc", "-d", '{"data": [[1]]}')
    from_file = keelway("service", "run", "-n", "ridge-svc", "-d", f"@{tmp_path / 'body.json'}", "--json")

    assert json.loads(plain.stdout) == json.loads(from_file.stdout) == {"result": [1.5]}
    assert [asked.body for asked in scoring.of("POST")] == [b'{"data": [[1]]}', b'{"data": [[2]]}']


def test_run_sends_a_file_that_is_not_json_as_bytes(scoring, keelway, tmp_path):
    (tmp_path / "image").write_bytes(b"\x89PNG")

    keelway("service", "run", "ridge-svc", "-d", f"@{tmp_path / 'image'}")

    assert scoring.of("POST")[0].body == b"\x89PNG"
    assert scoring.of("POST")[0].headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("body", ["{", "@/nope"])
def test_run_refuses_a_body_that_is_none(wire, keelway, body):
    assert keelway("service", "run", "ridge-svc", "-d", body).exit_code == 1
    assert not wire.asked


def test_run_tells_why_a_service_that_is_not_healthy_does_not_answer(scoring, keelway):
    failed = samples.service("failed", scoring_uri=f"{scoring.url}/score", reason="replica-failed: no such feature")
    scoring.on(f"GET {SERVICE}", Answer(200, failed))
    scoring.on("POST /score", Answer(404, {"status_code": 404, "message": "no such service"}))

    result = keelway("service", "run", "ridge-svc", "-d", "{}")

    assert result.exit_code == 1
    assert "service ridge-svc is failed: replica-failed: no such feature" in " ".join(result.stderr.split())


def test_run_tells_a_scoring_error(scoring, keelway):
    scoring.on("POST /score", Answer(500, {"status_code": 500, "message": "it broke"}))

    result = keelway("service", "run", "ridge-svc", "-d", "{}")

    assert result.exit_code == 1
    assert "500" in result.stderr
    assert "it broke" in result.stderr


def test_logs_are_printed_as_they_come(wire, keelway):
    wire.on(f"GET {SERVICE}/logs", Answer(200, b"one\ntwo\n", {"Content-Type": "text/plain"}))

    assert keelway("service", "logs", "ridge-svc", "--tail", "2").stdout == "one\ntwo\n"
    assert wire.asked[0].query == "tail=2"
    assert json.loads(keelway("service", "logs", "ridge-svc", "--json").stdout)["text"] == "one\ntwo\n"


def test_followed_logs_end_with_the_stream(wire, keelway):
    stream = b'id: 4\ndata: "one\\n"\n\nevent: end\ndata: {}\n\n'
    wire.on(f"GET {SERVICE}/logs", Answer(200, stream, {"Content-Type": "text/event-stream"}))

    assert keelway("service", "logs", "ridge-svc", "-f").stdout == "one\n"


def test_an_environment_is_registered_shown_locked_and_built(wire, keelway, tmp_path):
    path = f"{W}/environments/sklearn/versions"
    (tmp_path / "conda.yml").write_text("dependencies: [pip]")
    wire.on(f"POST {path}", Answer(201, samples.environment("sklearn")))
    wire.on(f"GET {path}/1", Answer(200, samples.environment("sklearn")))
    locked = [{"name": "a", "version": "1", "manager": "pip"}]
    lock = {"digest": "b", "python_version": "3.11", "requirements": "a==1\n", "packages": locked}
    wire.on(f"GET {path}/latest/lock", Answer(200, lock))
    wire.on(f"POST {path}/latest/build", Answer(202, samples.operation()))
    wire.on(f"GET {OPERATION}", Answer(200, samples.operation()))
    latest = {"name": "sklearn", "created_at": "2030-01-01T00:00:00Z", "latest": samples.environment("sklearn")}
    wire.on(f"GET {W}/environments", Answer(200, {"items": [latest]}))

    conda = ("--conda-file", str(tmp_path / "conda.yml"), "--variable", "A=b")
    assert "sklearn:1" in keelway("environment", "register", "sklearn", *conda).stdout
    assert wire.asked[0].json == {"conda_file": "dependencies: [pip]", "environment_variables": {"A": "b"}}
    assert "numpy" in keelway("environment", "show", "sklearn:1").stdout
    assert keelway("environment", "lock", "sklearn", "--requirements").stdout == "a==1\n"
    assert "sklearn" in keelway("environment", "list").stdout
    assert "succeeded" in keelway("environment", "build", "sklearn").stdout


def test_watching_an_operation_ends_as_it_does(wire, keelway):
    error = OperationError(code="c", message="it broke")
    wire.on(f"GET {OPERATION}", Answer(body=samples.operation(steps=("build",))))
    good = keelway("operation", "watch", OPERATION_ID)
    wire.on(f"GET {OPERATION}", Answer(body=samples.operation(OperationState.FAILED, error=error)))
    bad = keelway("operation", "watch", OPERATION_ID)
    wire.on(f"GET {OPERATION}", Answer(body=samples.operation(OperationState.CANCELLED)))
    cancelled = keelway("operation", "watch", OPERATION_ID)

    assert (good.exit_code, bad.exit_code, cancelled.exit_code) == (0, 1, 1)
    assert "build" in good.stderr
    assert "it broke" in bad.stderr
    assert "was cancelled" in cancelled.stderr


def test_an_operation_is_listed_shown_read_and_cancelled(wire, keelway):
    failed = samples.operation(OperationState.FAILED, error=OperationError(code="c", message="it broke"))
    wire.on("GET /v1/operations", Answer(body={"items": [failed] * 3}))
    wire.on(f"GET {OPERATION}", Answer(body=failed))
    wire.on(f"GET {OPERATION}/logs", Answer(200, b"log\n", {"Content-Type": "text/plain"}))
    wire.on(f"POST {OPERATION}/cancel", Answer(202, samples.operation(OperationState.CANCELLING)))

    assert len(json.loads(keelway("operation", "list", "--json", "--limit", "2", "--state", "failed").stdout)) == 2
    assert wire.asked[0].query == "state=failed"
    assert "it broke" in keelway("operation", "show", OPERATION_ID).stdout
    assert keelway("operation", "logs", OPERATION_ID).stdout == "log\n"
    assert "cancelling" in keelway("operation", "cancel", OPERATION_ID, "--yes").stdout
