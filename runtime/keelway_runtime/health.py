"""`python -m keelway_runtime.health`: ends with 0 when the server of this container answers that it is well."""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 5.0


def main() -> None:
    """Ask once; what is wrong goes to stderr, where a container engine keeps it."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("KEELWAY_PORT", "5001")), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"no answer: {error}")
    if status != http.client.OK:
        sys.exit(f"answered {status}")


if __name__ == "__main__":
    main()
