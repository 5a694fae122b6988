"""Whether a replica says that it is ready."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit


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
