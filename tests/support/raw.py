"""Requests whose paths go out exactly as they are written."""

from __future__ import annotations

import http.client

from tests.support.api import Api


def ask(api: Api, method: str, path: str) -> tuple[int, bytes]:
    """Status and body of the administrator's request."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", "localhost")
        connection.putheader("Authorization", f"Bearer {api.token('admin')}")
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
