"""From a claim to traffic: the deploy operation with a real supervisor and real replicas."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from keelway.contracts.operations import OperationState
from keelway.contracts.services import DeploySpec
from keelway_workers.deploy import cut_traceback, deploy, script_error
from keelway_workers.operation import run_operation
from tests.unit.workers.plane import Plane, replica_spec


@pytest.fixture
def gateway(plane: Plane) -> Iterator[str]:
    """Answers 200 once traffic was asked for."""

    class Route(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if plane.activated.is_set() else 404)
            self.send_header("Content-Length", "0")
            self.send_header("x-keelway-revision", "r1")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Route)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/default/ridge/"
    server.shutdown()
    thread.join()
    server.server_close()


def run_deploy(plane, settings, node) -> None:
    run_operation(
        "op-1", settings=settings, client=plane, handlers={"deploy": partial(deploy, node=node, settings=settings)}
    )


def deploy_spec(plane, environment, gateway, **changes) -> DeploySpec:
    return DeploySpec(
        replica=replica_spec(plane, environment, name="", **changes),
        num_replicas=1,
        scoring_uri=gateway + "score",
        health_uri=gateway,
    )


def test_a_deploy_ends_with_a_replica_that_answers(plane, settings, node, environment, gateway, supervise):
    plane.deploy_spec = deploy_spec(plane, environment, gateway)
    supervise()

    run_deploy(plane, settings, node)

    assert plane.operation_state is OperationState.SUCCEEDED, plane.reports[-1]
    assert "ridge-r1-0 on here: ready" in plane.log
    assert plane.steps == [
        "Environment is cached",
        "Fetching the model",
        "Starting 1 replica",
        "Loading the model",
        "Opening the scoring address",
    ]
    replica = plane.wait_for("ridge-r1-0", "ready")
    request = urllib.request.Request(f"{replica.url}/score", data=b"ping", headers={"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=5) as response:
        answer = json.load(response)
    assert answer["model"] == "weights"
    assert answer["raw"] == "ping"
    assert answer["environment"]["GREETING"] == "hello"
    assert "secret-token" not in json.dumps(answer)


def test_a_script_that_cannot_be_loaded_fails_the_deploy_with_its_traceback(
    plane, settings, node, environment, gateway, supervise
):
    script = b"def init():\n    raise ValueError('no such feature')\n\ndef run(raw):\n    return raw\n"
    plane.deploy_spec = deploy_spec(plane, environment, gateway, script=script)
    supervise()

    run_deploy(plane, settings, node)

    error = plane.reports[-1].error
    assert plane.operation_state is OperationState.FAILED
    assert error.code == "replica-failed"
    assert error.details["exit_code"] == 3
    assert error.details["traceback"].endswith("ValueError: no such feature")
    assert error.message.endswith("could not load its script (exit code 3): ValueError: no such feature")
    assert not plane.activated.is_set()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (b"def init(): pass\ndef run(raw): return raw\n", None),
        (b"def init(): pass\ndef run(raw): raise ValueError(raw)\n", "500"),
        (b"import os\ndef init(): pass\ndef run(raw): os._exit(3)\n", "does not answer its model's sample input"),
    ],
)
def test_a_replica_must_answer_its_model_s_sample_before_it_gets_traffic(
    plane, settings, node, environment, gateway, supervise, script, says
):
    plane.deploy_spec = deploy_spec(plane, environment, gateway, script=script).model_copy(
        update={"warm_up": [{"data": [1]}]}
    )
    supervise()

    run_deploy(plane, settings, node)

    assert "Warming up" in plane.steps
    assert plane.activated.is_set() is (says is None)
    if says is not None:
        assert plane.reports[-1].error.code == "warm-up-failed"
        assert says in plane.reports[-1].error.message


def test_a_cancelled_deploy_stops_waiting(plane, settings, node, environment, gateway):
    plane.deploy_spec = deploy_spec(plane, environment, gateway)
    cancel = threading.Timer(0.5, lambda: setattr(plane, "operation_state", OperationState.CANCELLING))
    cancel.start()

    run_deploy(plane, settings, node)  # no supervisor: nothing ever becomes ready

    cancel.join()
    assert plane.operation_state is OperationState.CANCELLED


def test_a_gateway_that_does_not_route_fails_the_deploy(
    plane, settings, node, environment, gateway, supervise, monkeypatch
):
    monkeypatch.setattr("keelway_workers.deploy.OPEN_WITHIN_S", 0.3)
    plane.deploy_spec = deploy_spec(plane, environment, gateway)
    plane.deploy_spec.health_uri = "http://127.0.0.1:9/"
    supervise()

    run_deploy(plane, settings, node)

    assert plane.reports[-1].error.code == "gateway-not-routing"


def test_a_traceback_is_cut_from_the_lines_around_it():
    lines = [
        "before",
        "Traceback (most recent call last):",
        '  File "score.py", line 2, in init',
        "    raise ValueError",
        "ValueError",
        "Model directory:",
    ]

    assert cut_traceback(lines) == "\n".join(lines[1:5])
    assert cut_traceback(["nothing"]) is None


def test_the_error_of_a_script_is_read_from_what_the_runtime_wrote_last():
    said = '{"time":"t","event":"script failed","error":"KeyError","message":"\'x\'"}'

    assert script_error(['{"event":"script failed"}', said, "Traceback ..."]) == "KeyError: 'x'"
    assert script_error([said + "half a line of the script"]) is None
    assert script_error(["nothing"]) is None
