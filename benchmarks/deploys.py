"""Deploying the diabetes example: the first time, when its environment is built already, and over one that serves.

In processes, and in containers where there is an engine with the base image of `make base-image`.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import images
from benchmarks.table import Row, seconds
from benchmarks.world import World
from keelway import Client
from keelway.contracts.models import ModelVersion
from keelway.contracts.services import ContainerResources, DeploymentConfig, InferenceConfig

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "diabetes"
CACHED = 5
IMPORTS = "import joblib, numpy, sklearn.linear_model, inference_schema.schema_decorators"


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
        swaps, answers = _swaps(client, "bench-first", [version], inference)
        _delete(client, "bench-first")
        contained = _contained(client, version, snapshot.digest)
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
        Row("update of a service that is called all the while: PATCH to done", seconds(swaps)),
        Row("its callers' requests, and those that failed", f"{answers[0]}, {answers[1]}", "none"),
        *contained,
    ]


def _swaps(
    client: Client, name: str, models: list[ModelVersion], inference: InferenceConfig
) -> tuple[list[float], Any]:
    """Seconds of each update, which differ in their descriptions; how many requests came meanwhile, and failed."""
    uri, took = client.services.get(name).scoring_uri, []
    with Callers(uri, json.dumps({"data": [[0.0] * 10] * 2}).encode()) as callers:
        for number in range(CACHED):
            changed = inference.model_copy(update={"description": f"change {number}"})
            took.append(_timed(lambda changed=changed: client.services.update(name, inference=changed).wait(300))[0])
    return took, (callers.answered, callers.failed)


def _contained(client: Client, version: ModelVersion, snapshot: str) -> list[Row]:
    """The same in containers."""
    if why := images.missing():
        return [Row(f"in containers: left out, {why}", "")]
    environment = client.environments.register(
        "bench-contained", conda_file=EXAMPLE / "environment.yml", base_image=images.BASE
    )
    inference = InferenceConfig(entry_script="score.py", snapshot=snapshot, environment=environment.id)
    config = DeploymentConfig(compute_type="docker", container_resources=ContainerResources(memory_gb=1, cpu_limit=2))
    first, _ = _timed(lambda: client.services.deploy("bench-contained", [version], inference, config).wait(600))
    image = client.images.get(client.services.get("bench-contained").revisions[0].image or "").name
    took, imports = [], []
    for number in range(CACHED):
        imports.append(_import_inside_s(image))
        name = f"bench-c{number}"
        took.append(_timed(lambda name=name: client.services.deploy(name, [version], inference, config).wait(300))[0])
        _delete(client, name)
    swaps, answers = _swaps(client, "bench-contained", [version], inference)
    _delete(client, "bench-contained")
    over = [deploy - imported for deploy, imported in zip(took, imports, strict=True)]
    return [
        Row("in a container, image to build", seconds([first])),
        Row("in a container, image built: POST to healthy", seconds(took)),
        Row("importing the script's libraries in a container", seconds(imports)),
        Row("the difference", seconds(over), "3 s"),
        Row("update in containers, called all the while: PATCH to done", seconds(swaps)),
        Row("its callers' requests, and those that failed", f"{answers[0]}, {answers[1]}", "none"),
    ]


class Callers:
    """Two callers without a break: how many requests were answered, and how many were not."""

    def __init__(self, uri: str, body: bytes) -> None:
        self._uri, self._body = uri, body
        self._done = threading.Event()
        self.answered = self.failed = 0
        self._threads = [threading.Thread(target=self._call) for _ in range(2)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        headers = {"Content-Type": "application/json"}
        while not self._done.wait(0.01):  # some 100 requests a second each
            try:
                with urllib.request.urlopen(urllib.request.Request(self._uri, self._body, headers), timeout=30):
                    self.answered += 1
            except OSError:
                self.failed += 1


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
    return _timed(lambda: subprocess.run([python, "-c", IMPORTS], check=True))[0]


def _import_inside_s(image: str) -> float:
    """As long as a container of that image takes for it, once it runs."""
    code = f"import time; begun = time.perf_counter(); {IMPORTS}; print(time.perf_counter() - begun)"
    command = ["docker", "run", "--rm", "--entrypoint", "/opt/keelway/env/bin/python", image, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _delete(client: Client, name: str) -> None:
    client.operations.wait(client.services.delete(name).id, 60)
