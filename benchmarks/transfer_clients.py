"""One transfer of one file by one client, in a process of its own: prints the seconds of the call, and bytes it sent.

Run with the interpreter that has the client: the peer's has boto3 and mlflow.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[[Path], object]


def _keelway(which: str, name: str) -> Call:
    client = importlib.import_module("keelway").Client(
        os.environ["BENCH_KEELWAY_URL"], os.environ["BENCH_KEELWAY_TOKEN"]
    )
    if which == "upload":
        return lambda file: client.models.register(name, file)
    return lambda file: client.models.download(name, "latest", file)


def _through_api(which: str, name: str) -> Call:
    """Like a client that does not reach the store."""
    importlib.import_module("keelway.links").Links.fetch = lambda self, start, end, take: start
    return _keelway(which, name.removesuffix("-api"))


def _minio(which: str, name: str) -> Call:
    endpoint, bucket = os.environ["BENCH_S3_ENDPOINT"], os.environ["BENCH_S3_BUCKET"]
    client = importlib.import_module("minio").Minio(
        endpoint, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], secure=False
    )
    if which == "upload":
        return lambda file: client.fput_object(bucket, name, str(file))
    return lambda file: client.fget_object(bucket, name, str(file / "got"))


def _boto3(which: str, name: str) -> Call:
    client = importlib.import_module("boto3").client(
        "s3", endpoint_url="http://" + os.environ["BENCH_S3_ENDPOINT"], region_name="us-east-1"
    )
    bucket = os.environ["BENCH_S3_BUCKET"]
    if which == "upload":
        return lambda file: client.upload_file(str(file), bucket, name)
    return lambda file: client.download_file(bucket, name, str(file / "got"))


def _mlflow(which: str, name: str) -> Call:
    client = importlib.import_module("mlflow").MlflowClient(os.environ["BENCH_MLFLOW_URL"])
    if which == "upload":
        run = client.create_run("0", run_name=name)
        return lambda file: client.log_artifact(run.info.run_id, str(file))
    found = client.search_runs(["0"], f"attributes.run_name = '{name}'")[0].info.run_id
    path = client.list_artifacts(found)[0].path
    return lambda file: client.download_artifacts(found, path, str(file))


CLIENTS = {
    "keelway": _keelway,
    "keelway-api": _through_api,
    "minio": _minio,
    "boto3": _boto3,
    "mlflow": _mlflow,
    "mlflow-proxy": _mlflow,
}


def _count_sends() -> list[int]:
    """Grows by the bytes of each piece that a plain socket of this process sends."""
    sent: list[int] = []

    class Counting(socket.socket):
        def send(self, data: Any, flags: int = 0) -> int:
            sent.append(super().send(data, flags))
            return sent[-1]

        def sendall(self, data: Any, flags: int = 0) -> None:
            super().sendall(data, flags)
            sent.append(len(data))

    socket.socket = Counting
    return sent


def main(client: str, which: str, name: str, path: str) -> None:
    """`upload` the file at `path`, or `download` into the folder at `path`."""
    sent = _count_sends()
    call = CLIENTS[client](which, name)
    began = time.perf_counter()
    call(Path(path))
    print(json.dumps({"seconds": time.perf_counter() - began, "sent_bytes": sum(sent)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
