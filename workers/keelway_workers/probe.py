"""Asking a replica itself, past the gateway."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

SAID_BYTES = 2000


def is_ready(url: str, timeout_s: float) -> bool:
    """Whether `GET /readyz` answers 200 in time."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def score(url: str, body: bytes, timeout_s: float) -> tuple[int, str]:
    """The status, and the beginning of the text, that `POST /score` of some JSON is answered with.

    OSError or HTTPException when there is no answer in time.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        connection.request("POST", "/score", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read(SAID_BYTES).decode(errors="replace")
    finally:
        connection.close()
