"""`keelway demo`: from training to a scored request, on a stack of its own that is gone afterwards."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keelway_standalone.background import BackgroundStack
from keelway_standalone.errors import Refused, StartFailed
from keelway_standalone.layout import Layout
from keelway_standalone.progress import Steps

if TYPE_CHECKING:
    from keelway import Client
    from keelway.contracts.services import Service

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "diabetes"
SERVICE = "diabetes-demo"
MODEL = "diabetes-ridge"
ROWS = 2
DEPLOY_LIMIT_S = 300.0
SCORE_LIMIT_S = 30.0


class DemoFailed(Exception):  # noqa: N818
    """What went another way than it should."""


def demo(data_dir: Path | None) -> int:
    """Run it all and give the exit code. A temporary data directory is removed, unless something failed."""
    from keelway.errors import KeelwayError  # noqa: PLC0415 (only the demo and `up` need the SDK)

    steps = Steps()
    folder = data_dir or Path(tempfile.mkdtemp(prefix="keelway-demo-")) / "data"
    try:
        _run(folder, steps)
    except (DemoFailed, StartFailed, Refused, KeelwayError, OSError) as error:
        for line in error.log_tail if isinstance(error, StartFailed) else []:
            steps.note(f"| {line}")
        steps.done(f"demo failed: {type(error).__name__}: {error}")
        steps.note(f"logs: {Layout.at(folder).logs}")
        return 1
    if data_dir is None:
        shutil.rmtree(folder.parent, ignore_errors=True)
    steps.total("in all: the service answered as the model does here")
    return 0


def _run(folder: Path, steps: Steps) -> None:
    _check_example()
    layout = Layout.at(folder)
    layout.make()
    # `up` speaks to who works with it, and of a clock of its own.
    stack = BackgroundStack(folder, output=layout.log("up"))
    try:
        steps.note(f"starting a stack of its own in {layout.root}")
        stack.start()
        steps.done("started PostgreSQL, Redis, the S3 store, the gateway, the API, a worker and a supervisor")
        _walk_through(stack, steps)
    finally:
        stack.stop()
    steps.done("stopped everything")


def _check_example() -> None:
    if not (EXAMPLE / "train.py").exists():
        raise DemoFailed(f"the example is not installed ({EXAMPLE} is missing): run the demo from a checkout")
    if importlib.util.find_spec("sklearn") is None:
        raise DemoFailed("the example trains with scikit-learn: pip install scikit-learn joblib")


def _walk_through(stack: BackgroundStack, steps: Steps) -> None:
    from keelway import Client  # noqa: PLC0415

    with Client(stack.url, stack.admin_token, retry_for_s=60) as client, tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{MODEL}.pkl"
        _example_module().train(model)
        steps.done(f"trained {model.name} ({model.stat().st_size} bytes)")
        _remove_old(client)
        service = _deploy(client, model, steps)
        rows = _patients()
        _compare(_score(client, service, rows), _predict(model, rows), steps)
        steps.done(f"scored: POST {service.scoring_uri} with {ROWS} rows")


def _deploy(client: Client, model: Path, steps: Steps) -> Service:
    from keelway.contracts.services import InferenceConfig  # noqa: PLC0415

    version = client.models.register(MODEL, model, tags={"area": "demo"}, framework="ScikitLearn")
    steps.done(f"registered {version.id} (sha256 {version.digest[:12]}...)")
    environment = client.environments.register(SERVICE, conda_file=EXAMPLE / "environment.yml")
    steps.done(f"registered environment {environment.id}")
    snapshot = client.snapshots.upload(EXAMPLE)
    steps.done(f"uploaded snapshot {snapshot.digest[:12]}...")
    inference = InferenceConfig(entry_script="score.py", snapshot=snapshot.digest, environment=environment.id)
    handle = client.services.deploy(SERVICE, [version], inference)
    steps.note(f"deploying {SERVICE}: builds the environment at its first use")
    service = handle.wait(DEPLOY_LIMIT_S)
    steps.done(f"deployed {SERVICE}: it is {service.state}")
    return service


def _remove_old(client: Client) -> None:
    """A data directory that was given may hold the service of an earlier demo."""
    from keelway.errors import NotFound, raise_unless_succeeded  # noqa: PLC0415

    try:
        operation = client.services.delete(SERVICE)
    except NotFound:
        return
    raise_unless_succeeded(client.operations.wait(operation.id, 60))


def _score(client: Client, service: Service, rows: Any) -> Sequence[float]:
    """The service's answer. Asked again for a while: the gateway or the replica may just be starting again."""
    from keelway.errors import ScoringError, Unreachable  # noqa: PLC0415

    ends_at = time.monotonic() + SCORE_LIMIT_S
    while True:
        try:
            return client.services.score(service.scoring_uri, {"data": rows.tolist()})
        except (Unreachable, ScoringError):
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.5)


def _compare(answered: Sequence[float], expected: Any, steps: Steps) -> None:
    import numpy  # noqa: PLC0415 (comes with scikit-learn)

    steps.note(f"service answers  {[round(float(value), 6) for value in answered]}")
    steps.note(f"model gives here {[round(float(value), 6) for value in expected]}")
    if numpy.shape(answered) != numpy.shape(expected) or not numpy.allclose(answered, expected):
        raise DemoFailed("the service's answer differs from the model's")


def _example_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("keelway_demo_train", EXAMPLE / "train.py")
    if spec is None or spec.loader is None:
        raise DemoFailed(f"{EXAMPLE / 'train.py'} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _patients() -> Any:
    from sklearn.datasets import load_diabetes  # noqa: PLC0415

    return load_diabetes(return_X_y=True)[0][:ROWS]


def _predict(model: Path, rows: Any) -> Any:
    import joblib  # noqa: PLC0415

    return joblib.load(model).predict(rows)
