"""Which servers take part: what to install, what to write into their folder, how to start and to ask them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import scoring_scripts

HERE = Path(__file__).resolve().parent
RUNTIME = HERE.parent / "runtime"
COMMON = ("numpy==2.4.*", "scikit-learn==1.9.*")
KEY = "the-primary-key-of-the-benchmark"
KEYS = {"primary": KEY, "secondary": "the-secondary-key-of-the-benchmark"}
BATCH_SIZE = 64

REQUIREMENTS = {
    "keelway": (str(RUNTIME), "inference-schema[numpy-support]"),
    "azureml": ("azureml-inference-server-http==1.5.*", "inference-schema[numpy-support]"),
    "mlserver": ("mlserver==1.7.*", "mlserver-sklearn==1.7.*"),
    "bentoml": ("bentoml==1.4.*",),
    "bare": ("fastapi", "uvicorn", "uvloop", "httptools", "orjson"),
}
# Of which the versions are told.
PACKAGES = {
    name: ("numpy", "scikit-learn", *packages)
    for name, packages in {
        "keelway": ("keelway-runtime", "inference-schema"),
        "azureml": ("azureml-inference-server-http", "inference-schema"),
        "mlserver": ("mlserver",),
        "bentoml": ("bentoml",),
        "bare": ("fastapi", "uvicorn", "httptools", "uvloop", "orjson"),
    }.items()
}


@dataclass(frozen=True)
class Route:
    """How to ask a server: the body it takes, where, and the figures in what it answers."""

    path: str
    body: str
    content_type: str = "application/json"
    figures: Callable[[Any], list[float]] = list


@dataclass(frozen=True)
class Server:
    """One way to serve the model. $PYTHON, $FOLDER, $PORT and the like are filled in when it is laid out."""

    name: str
    environment: str
    command: tuple[str, ...]
    routes: Mapping[str, Route]
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def _v2_figures(answer: Any) -> list[float]:
    return answer["outputs"][0]["data"]


JSON_ROUTES = {"small": Route("/score", "small.json"), "rows": Route("/score", "rows.json")}
RAW_CONTENT = "application/octet-stream"
RAW_AT_SCORE = {"raw": Route("/score", "raw.bin", RAW_CONTENT)}
RAW_AT_RAW = {"raw": Route("/raw", "raw.bin", RAW_CONTENT)}
V2_ROUTES = {
    body: Route("/v2/models/ridge/infer", f"{body}.v2.json", figures=_v2_figures) for body in ("small", "rows")
}


def _keelway(name: str, script: str, routes: Mapping[str, Route], **env: str) -> Server:
    digests = {which: hashlib.sha256(key.encode()).hexdigest() for which, key in KEYS.items()}
    return Server(
        name,
        "keelway",
        ("$PYTHON", "-m", "keelway_runtime"),
        routes,
        files={"score.py": script, "keys.json": json.dumps(digests)},
        env={
            "AML_APP_ROOT": "$FOLDER",
            "AZUREML_MODEL_DIR": "$FOLDER",
            "AZUREML_ENTRY_SCRIPT": "score.py",
            "KEELWAY_PORT": "$PORT",
            "KEELWAY_KEYS_FILE": "$FOLDER/keys.json",
            **env,
        },
        headers={"Authorization": f"Bearer {KEY}"},
    )


def _azureml(name: str, script: str, routes: Mapping[str, Route]) -> Server:
    return Server(
        name,
        "azureml",
        ("$PYTHON", "main.py"),
        routes,
        files={"score.py": script, "main.py": scoring_scripts.AZUREML_MAIN},
        env={"AML_APP_ROOT": "$FOLDER", "AZUREML_MODEL_DIR": "$FOLDER", "AZUREML_ENTRY_SCRIPT": "score.py"},
    )


def _mlserver(name: str, routes: Mapping[str, Route], *, batch_size: int = 0, workers: int = 0) -> Server:
    """Without its pool of processes: that costs it speed on one core, and does not start with uvloop 0.22 or later."""
    files = {
        "settings.json": scoring_scripts.MLSERVER.replace("$WORKERS", str(workers)),
        "ridge/model-settings.json": scoring_scripts.MLSERVER_MODEL.replace("$BATCH_SIZE", str(batch_size)).replace(
            "$BATCH_S", "0.001" if batch_size else "0"
        ),
    }
    if "raw" in routes:
        files["raw/model-settings.json"] = scoring_scripts.MLSERVER_RAW_MODEL
        files["raw/raw_model.py"] = scoring_scripts.MLSERVER_RAW
    return Server(name, "mlserver", ("$BIN/mlserver", "start", "."), routes, files=files)


def _bentoml() -> Server:
    return Server(
        "bentoml",
        "bentoml",
        ("$BIN/bentoml", "serve", "service:Ridge", "--host", "127.0.0.1", "--port", "$PORT"),
        JSON_ROUTES | RAW_AT_RAW,
        files={"service.py": scoring_scripts.BENTOML},
        env={"BENTOML_HOME": "$FOLDER/home", "BENTOML_DO_NOT_TRACK": "True"},
    )


def _bare(name: str, which: str) -> Server:
    command = ("$PYTHON", "-P", str(HERE / "scoring_bare.py"), which, "$PORT", "$FOLDER/model.joblib")
    return Server(name, "bare", command, JSON_ROUTES | RAW_AT_RAW)


SERVERS = (
    _keelway("keelway", scoring_scripts.UNDECORATED, JSON_ROUTES),
    _keelway("keelway/schema", scoring_scripts.SCHEMA, JSON_ROUTES),
    _keelway("keelway/batch", scoring_scripts.SCHEMA, JSON_ROUTES, KEELWAY_BATCH_SIZE=str(BATCH_SIZE)),
    _keelway("keelway/raw", scoring_scripts.RAW, RAW_AT_SCORE),
    _azureml("azureml", scoring_scripts.UNDECORATED, JSON_ROUTES),
    _azureml("azureml/schema", scoring_scripts.SCHEMA, JSON_ROUTES),
    _azureml("azureml/raw", scoring_scripts.RAW, RAW_AT_SCORE),
    _mlserver("mlserver", V2_ROUTES | RAW_AT_RAW),
    _mlserver("mlserver/batch", V2_ROUTES, batch_size=BATCH_SIZE),
    _bentoml(),
    _bare("fastapi", "fastapi"),
    _bare("bare-asgi", "asgi"),
    _bare("bare-protocol", "protocol"),
)
