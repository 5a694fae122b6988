"""Making runs through the API, with metrics and outputs."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.support.registry import manifest, send


def run(http: httpx2.Client, w: str, experiment: str = "exp", /, **body: Any) -> dict[str, Any]:
    """A running run."""
    response = http.post(f"{w}/experiments/{experiment}/runs", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def path_of(w: str, run: dict[str, Any]) -> str:
    """The path of a run."""
    return f"{w}/experiments/{run['experiment']}/runs/{run['id']}"


def report(http: httpx2.Client, w: str, run: dict[str, Any], **metrics: float) -> dict[str, Any]:
    """One value of each of these metrics."""
    body = {"metrics": [{"name": name, "value": value} for name, value in metrics.items()]}
    response = http.post(f"{path_of(w, run)}/metrics", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def open_outputs(http: httpx2.Client, w: str, run: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """Outputs in state `uploading`."""
    response = http.post(f"{path_of(w, run)}/outputs", json={"files": manifest(files)})
    assert response.status_code == 201, response.text
    return response.json()


def commit_outputs(http: httpx2.Client, w: str, run: dict[str, Any], upload: dict[str, Any]) -> httpx2.Response:
    """The answer to the commit of an upload."""
    return http.post(f"{path_of(w, run)}/outputs/{upload['id']}/commit")


def outputs(http: httpx2.Client, w: str, run: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """Outputs that are there."""
    upload = open_outputs(http, w, run, files)
    send(http, upload, files)
    response = commit_outputs(http, w, run, upload)
    assert response.status_code == 200, response.text
    return response.json()


def finish(http: httpx2.Client, w: str, run: dict[str, Any], state: str = "completed") -> dict[str, Any]:
    """The run, ended."""
    response = http.patch(path_of(w, run), json={"state": state})
    assert response.status_code == 200, response.text
    return response.json()
