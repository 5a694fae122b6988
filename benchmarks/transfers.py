"""1 GiB in and out through the SDK, beside plain S3 clients on the same store and MLflow's proxy before that store.

As `keelway up` gives it, where downloads come straight from the store; and as for clients that do not reach the store.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import transfer_clients
from benchmarks.mlflow import MlflowServer, installed
from benchmarks.table import Row, print_table, spread
from tests.support.api import Api

MIB = 2**20
ROUNDS = 3
FULL, QUICK = {"mib": 1024, "rounds": ROUNDS}, {"mib": 128, "rounds": 2}
S3_CLIENTS = ("minio", "boto3")
# By itself it hands its clients presigned addresses of the store for large files, and its proxy passes the others on.
PEERS = {
    "mlflow": {},
    "mlflow-proxy": {f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}": "false" for way in ("UPLOAD", "DOWNLOAD")},
}
LOOK_S = 0.02
SAID_BYTES = 64 * 2**10  # what may be sent of a file without any of its bytes
GOALS = {
    ("upload", "S3"): 0.85,
    ("upload", "mlflow-proxy"): 1.4,
    ("upload", "mlflow"): None,
    ("download", "S3"): 0.85,
    ("download", "mlflow-proxy"): None,
    ("download", "mlflow"): None,
}


@dataclass(frozen=True)
class Transfer:
    """How long it took, and all that the client sent."""

    seconds: float
    sent_bytes: int


class Field:
    """Everything that takes part: our API, its store, the peer before the same store."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder, self.size_bytes = folder, size_bytes
        self.api = Api(folder / "api", KEELWAY_CLOCK_S="5")  # as it comes, not as fast as tests want it
        self.bin_dir = installed()
        self.peer: MlflowServer | None = None

    def start(self) -> None:
        """All servers; waits until they answer."""
        (self.folder / "api").mkdir()
        self.api.start()
        if self.bin_dir:
            store = {**self._s3(), "MLFLOW_S3_ENDPOINT_URL": f"http://{self._s3()['BENCH_S3_ENDPOINT']}"}
            bucket = f"s3://{store['BENCH_S3_BUCKET']}/mlflow"
            self.peer = MlflowServer(
                self.bin_dir, self.folder, self.api.stack.postgres.url, artifacts=bucket, env=store
            )
            self.peer.start()

    def stop(self) -> None:
        """All servers."""
        if self.peer:
            self.peer.stop()
        self.api.stop()

    def clients(self, which: str) -> list[str]:
        """Those that can be had."""
        ours = ["keelway", "keelway-api"] if which == "download" else ["keelway"]
        return [*ours, "minio", *(["boto3", *PEERS] if self.peer else [])]

    def transfer(self, client: str, which: str, name: str, path: Path) -> Transfer:
        """One transfer. Raises RuntimeError when it does not succeed."""
        # -P: our module about the peer has its name.
        python = str(self.bin_dir / "python") if self.bin_dir and client in {"boto3", *PEERS} else sys.executable
        command = [python, "-P", transfer_clients.__file__, client, which, f"{name}-{client}", str(path)]
        done = subprocess.run(
            command, check=False, env=self._env() | PEERS.get(client, {}), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{client} {which}: {done.stderr[-2000:]}")
        return Transfer(**json.loads(done.stdout.splitlines()[-1]))

    def _env(self) -> dict[str, str]:
        ours = {"BENCH_KEELWAY_URL": self.api.url, "BENCH_KEELWAY_TOKEN": self.api.token("admin")}
        peers = {"BENCH_MLFLOW_URL": self.peer.url} if self.peer else {}
        return {**os.environ, **self._s3(), **ours, **peers}

    def _s3(self) -> dict[str, str]:
        env = self.api.env()
        return {
            "BENCH_S3_ENDPOINT": env["KEELWAY_S3_ENDPOINT"],
            "BENCH_S3_BUCKET": env["KEELWAY_S3_BUCKET"],
            "AWS_ACCESS_KEY_ID": Path(env["KEELWAY_S3_ACCESS_KEY_FILE"]).read_text().strip(),
            "AWS_SECRET_ACCESS_KEY": Path(env["KEELWAY_S3_SECRET_KEY_FILE"]).read_text().strip(),
        }


class Peak:
    """The memory the API held before this was open, and the most while it was."""

    def __init__(self, api: Api) -> None:
        self._api, self.before_bytes = api, api.rss_bytes
        self.most_bytes = self.before_bytes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.most_bytes = max(self.most_bytes, self._api.rss_bytes)


def _content(file: Path, size_bytes: int, seed: int) -> None:
    """Other bytes for each transfer: nobody may know them already."""
    pieces = random.Random(seed)
    with file.open("wb") as stream:
        for offset in range(0, size_bytes, 16 * MIB):
            stream.write(pieces.randbytes(min(16 * MIB, size_bytes - offset)))
        stream.flush()
        os.fsync(stream.fileno())


def _hashing_s(file: Path) -> float:
    began = time.perf_counter()
    with file.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")
    return time.perf_counter() - began


class Times:
    """Seconds of each client's uploads and downloads, round by round, and memory of the API."""

    def __init__(self, first_bytes: int) -> None:
        self.of: dict[tuple[str, str], list[float]] = {}
        self.again_s: list[float] = []
        self.hashing_s: list[float] = []
        self.again_bytes = 0
        self.grown_bytes: dict[str, int] = {"upload": 0, "download": 0}
        self.first_bytes = self.most_bytes = first_bytes

    def add(self, client: str, which: str, took_s: float) -> None:
        self.of.setdefault((client, which), []).append(took_s)

    def see(self, which: str, peak: Peak) -> None:
        """What the API held during a transfer through it."""
        self.grown_bytes[which] = max(self.grown_bytes[which], peak.most_bytes - peak.before_bytes)
        self.most_bytes = max(self.most_bytes, peak.most_bytes)


def _round(field: Field, number: int, times: Times) -> None:
    file, got = field.folder / f"content-{number}.bin", field.folder / "got"
    _content(file, field.size_bytes, number)
    for which in ("upload", "download"):
        # Each round begins with another client: none is always the first to meet what the one before it left to do.
        clients = field.clients(which)
        first = number % len(clients)
        for client in clients[first:] + clients[:first]:
            got.mkdir()
            with Peak(field.api) as peak:
                done = field.transfer(client, which, f"big-{number}", file if which == "upload" else got)
            times.add(client, which, done.seconds)
            if client.startswith("keelway"):
                times.see(which, peak)
                # Else the bytes are not counted, and 0 of the same content again would say nothing.
                assert which == "download" or done.sent_bytes >= field.size_bytes, done
            shutil.rmtree(got)
            os.sync()
    again = field.transfer("keelway", "upload", f"big-{number}", file)
    assert again.sent_bytes < SAID_BYTES, again
    times.again_s.append(again.seconds)
    times.again_bytes = max(times.again_bytes, again.sent_bytes)
    times.hashing_s.append(_hashing_s(file))
    file.unlink()


def _rows(field: Field, times: Times) -> list[Row]:
    rows: list[Row] = []
    for which in ("upload", "download"):
        s3 = [client for client in S3_CLIENTS if client in field.clients(which)]
        best = [min(some) for some in zip(*(times.of[client, which] for client in s3), strict=True)]
        ours = times.of["keelway", which]
        rows.append(_beside(field, ours, which, f"the best of {' and '.join(s3)}", best, GOALS[which, "S3"]))
        if which == "download":
            what, others = "download, where the store is not reached", times.of["keelway", "download"]
            rows.append(_beside(field, times.of["keelway-api", "download"], what, "past the API", others, None))
        for peer, how in (("mlflow-proxy", "MLflow through its proxy"), ("mlflow", "MLflow straight to the store")):
            if field.peer:
                rows.append(_beside(field, ours, which, how, times.of[peer, which], GOALS[which, peer]))
        rows.append(Row(f"{which}: memory of the API grew by", f"{times.grown_bytes[which] / MIB:.0f} MiB", "64 MiB"))
    grown_mib = (times.most_bytes - times.first_bytes) / MIB
    rows.append(Row("memory of the API grew from before the first transfer by", f"{grown_mib:.0f} MiB", "64 MiB"))
    what = f"same content again: {times.again_bytes / 1024:.1f} KiB sent, none of them content"
    ratios = [hashing / again for again, hashing in zip(times.again_s, times.hashing_s, strict=True)]
    hashing = f"hashing alone {spread(times.hashing_s, 's', 2)}"
    rows.append(Row(what, spread(times.again_s, "s", 2), "", hashing, spread(ratios, "x", 2)))
    return rows


def _beside(field: Field, ours_s: list[float], what: str, name: str, others_s: list[float], goal: float | None) -> Row:
    size_mib = field.size_bytes / MIB
    rates, other_rates = ([size_mib / took for took in some] for some in (ours_s, others_s))
    ratios = [other / own for other, own in zip(others_s, ours_s, strict=True)]
    beside = f"{name} {spread(other_rates, 'MiB/s', 0)}"
    return Row(what, spread(rates, "MiB/s", 0), f"{goal:g}x" if goal else "", beside, spread(ratios, "x", 2))


def measure(*, mib: int, rounds: int) -> list[Row]:
    """Rounds of every client's upload and download of a file of that size."""
    with tempfile.TemporaryDirectory(prefix="kwb-") as folder:
        field = Field(Path(folder), mib * MIB)
        try:
            field.start()
            times = Times(field.api.rss_bytes)
            for number in range(rounds):
                _round(field, number, times)
        finally:
            with suppress(AssertionError):
                field.stop()
        return _rows(field, times)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, help="size of the file, by default 1024")
    parser.add_argument("--rounds", type=int, help=f"by default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="by default 128 MiB and 2 rounds")
    asked = parser.parse_args()
    usual = QUICK if asked.quick else FULL
    print_table(measure(mib=asked.mib or usual["mib"], rounds=asked.rounds or usual["rounds"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
