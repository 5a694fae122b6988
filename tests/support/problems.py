"""What every refusal has in common."""

from __future__ import annotations

from typing import Any

import httpx2

from keelway.contracts.problems import PROBLEMS


def assert_problem(response: httpx2.Response, problem: str) -> dict[str, Any]:
    """The answer is the problem of this id, whole and in the right form; its document."""
    assert response.headers["content-type"] == "application/problem+json", (response.status_code, response.text[:500])
    document = response.json()
    kind = PROBLEMS[document["type"].removeprefix("/problems/")]
    assert (document["type"], response.status_code) == (f"/problems/{problem}", PROBLEMS[problem].status), document
    assert document["title"] == kind.title
    assert document["status"] == response.status_code
    assert document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def paths_of(document: dict[str, Any]) -> list[str]:
    """Where in the request the errors are."""
    return [error["path"] for error in document["errors"]]
