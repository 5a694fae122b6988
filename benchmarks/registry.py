"""The registry's REST, 16 clients at once, beside MLflow's on the same Postgres; every list among 100,000 versions."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.load import Call, Load, MakeCall, run
from benchmarks.mlflow import MlflowServer, installed
from benchmarks.table import Row, print_table, quantile
from tests.support.api import Api
from tests.support.many_versions import seed

MODELS, VERSIONS = 2_000, 50
PEER_MODELS = 200  # 10,000 versions
ROUNDS = 3
GOALS = {"get": 8, "create": 4, "list of 100": 20}
P99_MS = 100
REPEATS = 30
ORDERS = [{"order_by": column, "order": way} for column in ("created_at", "name", "version") for way in ("asc", "desc")]
FILTERS: list[dict[str, object]] = [
    {"tag": "team"},
    {"tag": "team=t3"},
    {"tag": "team=none"},
    {"tag": "n=7"},
    {"tag": ["team=t3", "stage=s4"], "framework": "custom"},
    {"property": "git"},
    {"property": "git=c5005"},
    {"framework": "onnx"},
    {"run": "train/r77"},
    {"dataset": "d77"},
    {"name": "m77"},
    {"latest_only": "true"},
]


@contextmanager
def _ours(folder: Path) -> Iterator[Api]:
    api = Api(folder)
    api.start()
    try:
        yield api
    finally:
        api.stop()


def _our_calls(token: str) -> dict[str, MakeCall]:
    headers = (("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"))
    w = "/v1/workspaces/default"

    def create(number: int) -> Call:
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        body = {"files": [{"path": "m.pkl", "size_bytes": 1000, "sha256": digest}], "tags": {"team": "t"}}
        sent = (*headers, ("Idempotency-Key", str(number)))
        return Call("POST", f"{w}/models/new{number % 1000}/versions", json.dumps(body).encode(), sent)

    return {
        "get": lambda n: Call("GET", f"{w}/models/m{1 + n * 7919 % MODELS}/versions/{1 + n % VERSIONS}", None, headers),
        "create": create,
        "list of 100": lambda n: Call("GET", f"{w}/model-versions?limit=100", None, headers),
    }


def _peer_calls() -> dict[str, MakeCall]:
    headers = (("Content-Type", "application/json"),)
    w = "/api/2.0/mlflow/model-versions"

    def create(number: int) -> Call:
        tags = [{"key": "team", "value": "t"}]
        body = {"name": f"m{1 + number % PEER_MODELS}", "source": "s3://bucket/model", "tags": tags}
        return Call("POST", f"{w}/create", json.dumps(body).encode(), headers)

    return {
        "get": lambda n: Call("GET", f"{w}/get?name=m{1 + n * 7919 % PEER_MODELS}&version={1 + n % VERSIONS}"),
        "create": create,
        "list of 100": lambda n: Call("GET", f"{w}/search?max_results=100"),
    }


def _rates(ours: list[Load], peers: list[Load], what: str) -> Row:
    rates, others = [load.rate for load in ours], [load.rate for load in peers]
    p99 = quantile([took for load in ours for took in load.times_s], 0.99) * 1000
    measured = f"{quantile(rates, 0.5):.0f}/s ({min(rates):.0f} to {max(rates):.0f}), p99 {p99:.0f} ms"
    if not others:
        return Row(what, f"{measured}; MLflow not available", f"{GOALS[what]}x MLflow")
    ratios = [one / other for one, other in zip(rates, others, strict=True)]
    beside = f"MLflow {quantile(others, 0.5):.0f}/s ({min(others):.0f} to {max(others):.0f})"
    times = f"{quantile(ratios, 0.5):.1f}x ({min(ratios):.1f} to {max(ratios):.1f})"
    return Row(what, f"{measured}; {beside}; {times}", f"{GOALS[what]}x MLflow")


def _side_by_side(api: Api, peer: MlflowServer | None) -> list[Row]:
    """One after the other, round after round: what else the machine does meets both."""
    rows: list[Row] = []
    theirs = _peer_calls()
    for what, call in _our_calls(api.token("admin")).items():
        ours: list[Load] = []
        peers: list[Load] = []
        for _ in range(ROUNDS):
            ours.append(run(api.url, call))
            if peer:
                peers.append(run(peer.url, theirs[what]))
        rows.append(_rates(ours, peers, what))
    rows.append(Row("memory of the API", f"{api.rss_bytes / 2**20:.0f} MiB"))
    if peer:
        rows.append(Row("memory of the MLflow server", f"{peer.rss_bytes / 2**20:.0f} MiB"))
    return rows


def _lists(api: Api) -> list[Row]:
    """The slowest of all lists and filters, one client, first and second page."""
    times: dict[str, list[float]] = {}
    for path in ("model-versions", "models"):
        for query in (*ORDERS, *FILTERS, *({**found, "order_by": "name"} for found in FILTERS)):
            url = f"{api.url}/v1/workspaces/default/{path}?{urlencode({**query, 'limit': 100}, doseq=True)}"
            times[url] = []
            token = [_timed(api, url, times[url]) for _ in range(REPEATS)][-1]
            for _ in range(REPEATS if token else 0):
                _timed(api, f"{url}&page_token={token}", times[url])
    slowest = max(times, key=lambda url: quantile(times[url], 0.99))
    every = [took for some in times.values() for took in some]
    query = slowest.split("default/")[1]
    return [
        Row(
            f"{len(times)} lists among {MODELS * VERSIONS:,} versions",
            f"p99 of all {quantile(every, 0.99) * 1000:.0f} ms; "
            f"of the slowest {quantile(times[slowest], 0.99) * 1000:.0f} ms ({query})",
            f"p99 {P99_MS} ms",
        )
    ]


def _timed(api: Api, url: str, times: list[float]) -> str | None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api.token('admin')}"})
    began = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        body = answer.read()
    times.append(time.perf_counter() - began)
    return json.loads(body)["next_page_token"]


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="kwb-") as folder, _ours(Path(folder)) as api:
        with api.stack.postgres.connect() as connection:
            seed(connection, "default", models=MODELS, versions=VERSIONS)
        rows = _lists(api)
        bin_dir = installed()
        peer = MlflowServer(bin_dir, Path(folder), api.stack.postgres.url) if bin_dir else None
        try:
            if peer:
                peer.start()
                peer.seed(models=PEER_MODELS, versions=VERSIONS)
                rows.append(Row("peer", f"MLflow {peer.version}, {PEER_MODELS * VERSIONS:,} versions"))
            rows += _side_by_side(api, peer)
        finally:
            if peer:
                peer.stop()
    print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
