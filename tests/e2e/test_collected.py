"""Model data collection, from the entry script to what people download."""

import csv
import io
import signal
from contextlib import suppress

import pytest

from keelway.contracts.services import DeploymentConfig, InferenceConfig
from keelway.errors import NotFound
from tests.support.running import replicas
from tests.support.stack import until

SCRIPT = """\
import json
from azureml.monitoring import ModelDataCollector
from keelway_runtime import collect


def init():
    global inputs, predictions
    inputs = ModelDataCollector("weights", designation="inputs", feature_names=["number", "text"])
    predictions = ModelDataCollector("weights", designation="predictions", feature_names=["doubled"])


def run(raw):
    number, text = json.loads(raw)
    inputs.collect([[number, text]], user_correlation_id=f"c{number}")
    predictions.collect([2 * number])
    return collect.dropped_rows()
"""
TEXT = 'two\nlines, "quoted"'


@pytest.fixture
def deploy(user):
    """deploy(name): a service that collects; those still there are deleted at the end."""
    made = []

    def start(name, environment=None):
        inference = InferenceConfig(
            entry_script="score.py", snapshot=user.snapshot(SCRIPT), environment=environment or user.environment
        )
        config = DeploymentConfig(collect_model_data=True)
        made.append(name)
        return user.client.services.deploy(name, [user.model], inference, config).wait(60)

    yield start
    for name in made:
        with suppress(NotFound):
            user.delete(name)
        with suppress(NotFound):
            user.client.services.delete_collected(name)


def restart(stack, service):
    """End its replica in order: it closes its files, and is started again."""
    found = replicas(stack, service)
    pids = {process.pid for process in found}
    (leader,) = [process for process in found if process.ppid() not in pids]
    leader.send_signal(signal.SIGTERM)


def has_restarted(user, service):
    (replica,) = user.client.services.get(service).replicas
    return (replica.restarts, replica.state) == (1, "ready")


def rows_of(user, name, designation, tmp_path):
    """All rows of a designation by number, as they come out of downloaded files."""
    paths = user.client.services.download_collected(name, tmp_path / "data", designation=designation)
    texts = [path.read_bytes().decode() for path in paths]
    return [row for text in texts for row in csv.DictReader(io.StringIO(text, newline=""))]


def test_what_a_script_collects_is_there_as_files_and_outlives_its_service(stack, user, keelway, deploy, tmp_path):
    service = deploy("collect-svc")
    for number in range(3):
        assert user.client.services.score(service.scoring_uri, [number, TEXT]) == 0
    restart(stack, "collect-svc")
    until(lambda: len(list(user.client.services.collected("collect-svc"))) == 2, "both files are there", 30)

    inputs = rows_of(user, "collect-svc", "inputs", tmp_path)
    predictions = rows_of(user, "collect-svc", "predictions", tmp_path)
    assert [(row["number"], row["text"], row["$correlationId"]) for row in inputs] == [
        (str(number), TEXT, f"c{number}") for number in range(3)
    ]
    assert [row["doubled"] for row in predictions] == ["0", "2", "4"]
    assert [row["$requestId"] for row in predictions] == [row["$requestId"] for row in inputs]
    assert len({row["$requestId"] for row in inputs}) == 3
    [path] = [
        file["path"] for file in keelway.json("service", "data", "list", "collect-svc", "--designation", "inputs")
    ]
    assert path.startswith("weights/1/inputs/20")
    until(lambda: has_restarted(user, "collect-svc"), "it serves again", 30)
    user.client.services.score(service.scoring_uri, [3, TEXT])

    user.delete("collect-svc")

    assert [row["number"] for row in rows_of(user, "collect-svc", "inputs", tmp_path)] == ["0", "1", "2", "3"]
    deleted = keelway.json("service", "data", "delete", "collect-svc", "--yes")
    assert deleted["deleted_files"] == 4
    assert keelway.problem("service", "data", "list", "collect-svc")["type"] == "not-found"


def test_nothing_is_lost_or_doubled_while_api_and_supervisor_are_away(stack, user, deploy, tmp_path):
    service = deploy("collect-away-svc")
    supervisor, api = stack.kill("supervisor"), stack.kill("api")
    for number in range(20):
        user.client.services.score(service.scoring_uri, [number, TEXT])
    restart(stack, "collect-away-svc")
    stack.wait_restarted("api", api, 60)
    stack.wait_restarted("supervisor", supervisor, 60)

    until(lambda: len(list(user.client.services.collected("collect-away-svc"))) == 2, "both files are there", 60)
    numbers = [row["number"] for row in rows_of(user, "collect-away-svc", "inputs", tmp_path)]
    assert numbers == [str(number) for number in range(20)]


def test_a_spool_that_is_full_drops_and_counts_and_scoring_goes_on(stack, user, deploy, tmp_path):
    variables = {"KEELWAY_COLLECT_MAX_BYTES": "20000"}
    environment = user.client.environments.register("small-spool", pip_requirements=[], environment_variables=variables)
    service = deploy("collect-full-svc", environment.id)

    answers = [user.client.services.score(service.scoring_uri, [number, "x" * 1000]) for number in range(60)]

    assert answers[-1] > 30
    user.delete("collect-full-svc")
    rows = rows_of(user, "collect-full-svc", "inputs", tmp_path)
    assert 5 < len(rows) < 30
    assert all(row["text"] == "x" * 1000 for row in rows)
