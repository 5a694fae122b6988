"""From training to a scored request, by the command line on the examples as they are."""

import importlib.util
import json
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import joblib
import pandas
import pytest
from sklearn.datasets import load_diabetes

from tests.support.running import replicas

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def deployed(keelway, tmp_path_factory):
    """Trains an example, registers and deploys it once: its service as `model deploy` printed it, and the model."""
    made = {}

    def deploy(example: str, model: str, service: str) -> SimpleNamespace:
        if service in made:
            return made[service]
        path = tmp_path_factory.mktemp(example) / f"{model}.pkl"
        _module(EXAMPLES / example / "train.py").train(path)
        registered = keelway.json("model", "register", "-n", model, "-p", path, "--tag", "area=e2e")
        folder = EXAMPLES / example
        configs = ("--ic", folder / "inferenceconfig.json", "--dc", folder / "deploymentconfig.json")
        shown = keelway.json("model", "deploy", "-n", service, "-m", f"{model}:1", *configs)
        made[service] = SimpleNamespace(**shown, model=joblib.load(path), path=path, registered=registered)
        return made[service]

    return deploy


@pytest.fixture
def diabetes(deployed):
    return deployed("diabetes", "diabetes-ridge", "ridge-svc")


@pytest.fixture
def adult(deployed):
    return deployed("adult_frame", "adult-income", "income-svc")


def _module(path):
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def post(uri, document):
    request = urllib.request.Request(uri, json.dumps(document).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_gateway_answers_as_the_model_does_here(diabetes):
    patients = load_diabetes(return_X_y=True)[0][:20]

    answered = post(diabetes.scoring_uri, {"data": patients.tolist()})

    assert answered == pytest.approx(diabetes.model.predict(patients).tolist())


def test_a_deployed_service_says_that_it_is_healthy_and_where_it_is(diabetes, stack):
    assert diabetes.state == "healthy"
    assert diabetes.scoring_uri == f"{stack.gateway_url}/default/ridge-svc/score"
    assert [revision["models"] for revision in diabetes.revisions] == [["diabetes-ridge:1"]]
    assert [replica["state"] for replica in diabetes.replicas] == ["ready"]
    assert len(replicas(stack, "ridge-svc")) == 1


def test_swagger_comes_through_the_gateway_with_the_examples_of_the_script(diabetes):
    with urllib.request.urlopen(diabetes.swagger_uri) as answer:
        swagger = json.load(answer)

    assert len(swagger["definitions"]["ServiceInput"]["example"]["data"][0]) == 10
    assert swagger["definitions"]["ServiceOutput"]["example"] == [201.5]


def test_a_frame_of_rows_with_names_is_scored_as_the_model_does_here(adult):
    people = [
        {"age": 25, "workclass": "Private", "hours_per_week": 20.0},
        {"age": 60, "workclass": "Self-emp", "hours_per_week": 70.0},
    ]

    assert post(adult.scoring_uri, {"data": people}) == adult.model.predict(pandas.DataFrame(people)).tolist()


def test_a_service_is_run_by_name(diabetes, keelway):
    patients = load_diabetes(return_X_y=True)[0][:2]

    answered = keelway.json("service", "run", "ridge-svc", "-d", json.dumps({"data": patients.tolist()}))

    assert answered == pytest.approx(diabetes.model.predict(patients).tolist())


def test_a_request_that_the_script_refuses_is_told_with_the_place(diabetes, keelway):
    refused = keelway.problem("service", "run", "ridge-svc", "-d", '{"data": [[1, 2]]}')

    assert "$.data[0]: expected 10 items" in refused["detail"]


def test_the_logs_of_a_service_say_that_it_was_ready(diabetes, keelway):
    shown = keelway.json("service", "logs", "ridge-svc")

    assert shown["name"] == "ridge-svc"
    assert '"event":"ready"' in shown["text"]
    assert keelway("service", "logs", "ridge-svc", "--tail", "1").stdout.count("\n") == 1


def test_a_model_comes_back_as_it_was_registered(diabetes, keelway, tmp_path):
    got = keelway.json("model", "download", "diabetes-ridge:1", "-t", tmp_path)

    assert Path(got["path"]).read_bytes() == diabetes.path.read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        "whoami",
        "model list",
        "model list -n diabetes-ridge",
        "model show diabetes-ridge:1",
        "environment list",
        "environment show ridge-svc-env",
        "environment lock ridge-svc-env",
        "service list",
        "service show ridge-svc",
        "operation list",
        "workspace list",
        "workspace show",
    ],
)
def test_what_is_shown_as_json_parses_and_is_shown_to_people_as_well(diabetes, keelway, command):
    assert keelway.json(*command.split())
    assert keelway(*command.split()).stdout.strip()


def test_an_operation_is_shown_with_its_steps(diabetes, keelway):
    shown = keelway.json("operation", "show", diabetes.operation)

    assert shown["state"] == "succeeded"
    assert [step["name"] for step in shown["steps"]][-2:] == ["Loading the model", "Opening the scoring address"]
    assert keelway.json("operation", "watch", diabetes.operation)["id"] == diabetes.operation
    assert "ready" in keelway.json("operation", "logs", diabetes.operation)["text"]


def test_a_deleted_service_leaves_no_process_and_no_route(diabetes, keelway, stack):
    deleted = keelway.json("service", "delete", "ridge-svc", "--yes")

    assert deleted["state"] == "succeeded"
    assert replicas(stack, "ridge-svc") == []
    assert keelway.problem("service", "show", "ridge-svc")["type"] == "not-found"
    with pytest.raises(urllib.error.HTTPError) as gone:
        urllib.request.urlopen(diabetes.swagger_uri)
    gone.value.close()
    assert gone.value.code == 404
