"""The environment variables of our children: each gets what it needs, and nothing else of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping

from keelway_standalone.layout import Layout

MARK = "KEELWAY_STACK"  # names the data directory in /proc/PID/environ: how strays are found
EVERYBODY = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME")
PREFIXES = ("UV_", "PIP_", "OTEL_")


def basic(layout: Layout) -> dict[str, str]:
    """For the services, which know nothing of Keelway."""
    return {MARK: str(layout.root), **_picked(EVERYBODY)}


def networked(layout: Layout, settings: Mapping[str, object], passed: tuple[str, ...]) -> dict[str, str]:
    """For our own processes: they fetch packages, and an operator may tune what is named in `passed`."""
    names = [*NETWORK, *(name.lower() for name in NETWORK), *passed]
    prefixed = [name for name in os.environ if name.startswith(PREFIXES)]
    given = {name: str(value) for name, value in settings.items()}
    return basic(layout) | {"PYTHONUNBUFFERED": "1"} | _picked((*names, *prefixed)) | given


def is_declared(name: str) -> bool:
    """Whether an operator set a switch."""
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def _picked(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
