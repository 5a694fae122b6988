"""Deploying the diabetes example: the first time, and when its environment is built already."""

from __future__ import annotations

import importlib.util
import subprocess
import time
from pathlib import Path

from benchmarks.table import Row, seconds
from benchmarks.world import World
from keelway import Client
from keelway.contracts.services import InferenceConfig

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "diabetes"
CACHED = 5


def measure(world: World) -> list[Row]:
    """POST to healthy: once with a build, then several times without, beside importing what the script imports."""
    with world.client() as client:
        model = world.folder / "diabetes-ridge.pkl"
        _train(model)
        registered, version = _timed(lambda: client.models.register("diabetes-ridge", model))
        locked, environment = _timed(
            lambda: client.environments.register("bench-dia", conda_file=EXAMPLE / "environment.yml")
        )
        uploaded, snapshot = _timed(lambda: client.snapshots.upload(EXAMPLE))
        inference = InferenceConfig(entry_script="score.py", snapshot=snapshot.digest, environment=environment.id)
        first, _ = _timed(lambda: client.services.deploy("bench-first", [version], inference).wait(300))
        cached, imports, scores = [], [], []
        for number in range(CACHED):
            python = _environment_python(world)
            imports.append(_import_s(python))
            name = f"bench-{number}"
            cached.append(_timed(lambda name=name: client.services.deploy(name, [version], inference).wait(300))[0])
            scores.append(_timed(lambda name=name: client.services.run(name, {"data": [[0.0] * 10] * 2}))[0])
            _delete(client, name)
        _delete(client, "bench-first")
    over = [deploy - imported for deploy, imported in zip(cached, imports, strict=True)]
    return [
        Row("register a model of one small file", seconds([registered])),
        Row("register (lock) an environment", seconds([locked])),
        Row("upload a snapshot", seconds([uploaded])),
        Row("deploy, environment to build (packages in uv's cache or not)", seconds([first])),
        Row("deploy, environment built: POST to healthy", seconds(cached)),
        Row("importing the script's libraries in that environment", seconds(imports)),
        Row("the difference", seconds(over), "2 s"),
        Row("the first score after it", seconds(scores)),
    ]


def _timed(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _train(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("bench_train", EXAMPLE / "train.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.train(path)


def _environment_python(world: World) -> Path:
    """The python of the environment that has scikit-learn in it."""
    environments = world.stack.layout.root / "node" / "environments"
    found = next(environments.glob("*/lib/python*/site-packages/sklearn"))
    return found.parents[3] / "bin" / "python"


def _import_s(python: Path) -> float:
    code = "import joblib, numpy, sklearn.linear_model, inference_schema.schema_decorators"
    return _timed(lambda: subprocess.run([python, "-c", code], check=True))[0]


def _delete(client: Client, name: str) -> None:
    client.operations.wait(client.services.delete(name).id, 60)
