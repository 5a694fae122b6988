"""The registry's REST, 16 clients at once, beside MLflow's on the same Postgres; every list among 100,000 versions."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from benchmarks.load import Call, Load, MakeCall, run
from benchmarks.mlflow import MlflowServer, installed
from benchmarks.table import Row, print_table, quantile, spread
from tests.support.api import Api
from tests.support.many_versions import seed

MODELS, VERSIONS = 2_000, 50
PEER_MODELS = 200  # 10,000 versions
KEPT, FRESH = "list of 100, the same page again and again", "list of 100, each page for the first time"
# 20x is about the page that everybody asks for: MLflow is asked for one page as well, which it makes anew each time.
GOALS = {"get": 8, "create": 4, KEPT: 20, FRESH: None}
P99_MS = 100
ORDERS = [{"order_by": column, "order": way} for column in ("created_at", "name", "version") for way in ("asc", "desc")]
FILTERS: list[dict[str, object]] = [
    {"tag": "team"},
    {"tag": "team=t3"},
    {"tag": "team=none"},
    {"tag": "n=7"},
    {"tag": "pinned"},
    {"tag": ["team=t3", "stage=s4"], "framework": "custom"},
    {"property": "git"},
    {"property": "git=c5005"},
    {"framework": "onnx"},
    {"framework": "lightgbm"},
    {"framework": "none"},
    {"run": "train/r77"},
    {"dataset": "d77"},
    {"dataset": "none"},
    {"safety": "executable"},
    {"safety": "inert"},
    {"safety": "not-inspected"},
    {"name": "m77"},
]


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int = 3
    seconds: float = 4.0
    repeats: int = 30


QUICK = Effort(rounds=2, seconds=3.0, repeats=4)


@contextmanager
def _ours(folder: Path) -> Iterator[Api]:
    api = Api(folder)
    api.start()
    try:
        yield api
    finally:
        api.stop()


def _our_calls(token: str, newest_at: datetime) -> dict[str, MakeCall]:
    headers = (("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"))
    w = "/v1/workspaces/default"

    def token_of(number: int) -> str:
        """For a page that begins somewhere among the versions, which are a second apart; no two are the same."""
        behind = newest_at - timedelta(seconds=number * 7919 % (MODELS * VERSIONS - 200))
        cursor = json.dumps(["created_at desc", behind.isoformat(), str(UUID(int=number))])
        return base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")

    def create(number: int) -> Call:
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        body = {"files": [{"path": "m.pkl", "size_bytes": 1000, "sha256": digest}], "tags": {"team": "t"}}
        sent = (*headers, ("Idempotency-Key", str(number)))
        return Call("POST", f"{w}/models/new{number % 1000}/versions", json.dumps(body).encode(), sent)

    return {
        "get": lambda n: Call("GET", f"{w}/models/m{1 + n * 7919 % MODELS}/versions/{1 + n % VERSIONS}", None, headers),
        "create": create,
        KEPT: lambda n: Call("GET", f"{w}/model-versions?limit=100", None, headers),
        FRESH: lambda n: Call("GET", f"{w}/model-versions?limit=100&page_token={token_of(n)}", None, headers),
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
        **dict.fromkeys((KEPT, FRESH), lambda n: Call("GET", f"{w}/search?max_results=100")),
    }


def _rates(ours: list[Load], peers: list[Load], what: str) -> Row:
    p99_ms = quantile([took for load in ours for took in load.times_s], 0.99) * 1000
    measured = f"{spread([load.rate for load in ours], '/s', 0)}, p99 {p99_ms:.0f} ms"
    goal = f"{GOALS[what]}x" if GOALS[what] else "none: for comparison"
    if not peers:
        return Row(what, measured, goal, peers="MLflow not available")
    beside = f"MLflow {spread([load.rate for load in peers], '/s', 0)}"
    ratios = [one.rate / other.rate for one, other in zip(ours, peers, strict=True) if other.rate]
    return Row(what, measured, goal, beside, spread(ratios, "x", 1) if ratios else "it answered nothing in time")


def _side_by_side(api: Api, peer: MlflowServer | None, effort: Effort) -> list[Row]:
    """One after the other, round after round: what else the machine does meets both."""
    rows: list[Row] = []
    theirs = _peer_calls()
    newest_at = datetime.fromisoformat(_get(api, f"{LISTS}/model-versions?limit=1")["items"][0]["created_at"])
    for what, call in _our_calls(api.token("admin"), newest_at).items():
        ours: list[Load] = []
        peers: list[Load] = []
        for _ in range(effort.rounds):
            ours.append(run(api.url, call, seconds=effort.seconds))
            if peer:
                peers.append(run(peer.url, theirs[what], seconds=effort.seconds))
        rows.append(_rates(ours, peers, what))
    memory = f"MLflow {peer.rss_bytes / 2**20:.0f} MiB" if peer else ""
    return [*rows, Row("memory of the server", f"{api.rss_bytes / 2**20:.0f} MiB", peers=memory)]


LISTS = "/v1/workspaces/default"


def _queries() -> Iterator[tuple[str, Mapping[str, object]]]:
    """Lists and what they are asked for: every order, and every filter in some, of all and of the latest versions."""
    for path in ("model-versions", "models"):
        for latest in ({}, {"latest_only": "true"}):
            for order in ORDERS:
                yield path, order | latest
            for found in FILTERS:
                for order in ({}, {"order_by": "name"}, {"order_by": "version", "order": "asc"}):
                    yield path, found | order | latest


def _lists(api: Api, effort: Effort) -> list[Row]:
    """The slowest of all lists and filters, one client, first and second page, none of them kept from before."""
    times: dict[str, list[float]] = {}
    for path, query in _queries():
        name = f"{path}?{urlencode(query, doseq=True)}"
        times[name] = []
        for number in range(effort.repeats):
            url = f"{LISTS}/{path}?{urlencode({**query, 'limit': 100 - number}, doseq=True)}"  # another page each time
            token = _timed(api, url, times[name])
            if token:
                _timed(api, f"{url}&page_token={token}", times[name])
    p99_ms = {name: quantile(some, 0.99) * 1000 for name, some in times.items()}
    slowest = max(p99_ms, key=lambda name: p99_ms[name])
    every = [took for some in times.values() for took in some]
    what = f"{len(times)} lists among {MODELS * VERSIONS:,} versions"
    return [
        Row(f"{what}, p99 of all", f"{quantile(every, 0.99) * 1000:.0f} ms (n={len(every)})", f"{P99_MS} ms"),
        Row(
            "the slowest of them, p99", f"{p99_ms[slowest]:.0f} ms (n={len(times[slowest])}): {slowest}", f"{P99_MS} ms"
        ),
    ]


def _timed(api: Api, path: str, times: list[float]) -> str | None:
    began = time.perf_counter()
    answer = _get(api, path)
    times.append(time.perf_counter() - began)
    return answer["next_page_token"]


def _get(api: Api, path: str) -> Any:
    request = urllib.request.Request(api.url + path, headers={"Authorization": f"Bearer {api.token('admin')}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def measure(effort: Effort) -> list[Row]:
    """Every list among very many versions, then what 16 clients ask for, beside the peer."""
    with tempfile.TemporaryDirectory(prefix="kwb-") as folder, _ours(Path(folder)) as api:
        with api.stack.postgres.connect() as connection:
            seed(connection, "default", models=MODELS, versions=VERSIONS)
        rows = _lists(api, effort)
        bin_dir = installed()
        peer = MlflowServer(bin_dir, Path(folder), api.stack.postgres.url) if bin_dir else None
        try:
            if peer:
                peer.start()
                peer.seed(models=PEER_MODELS, versions=VERSIONS)
                name = f"MLflow {peer.version}, {PEER_MODELS * VERSIONS:,} versions"
                rows.append(Row("versions that there are", f"{MODELS * VERSIONS:,}", peers=name))
            return rows + _side_by_side(api, peer, effort)
        finally:
            if peer:
                peer.stop()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    print_table(measure(QUICK if parser.parse_args().quick else Effort()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
