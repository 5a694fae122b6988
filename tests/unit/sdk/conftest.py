"""A scripted server, a client of it, and no context of the person who runs the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keelway.client import Client
from tests.unit.sdk.wire import Wire, serving


@pytest.fixture(autouse=True)
def _no_context(monkeypatch, tmp_path):
    for name in ("KEELWAY_URL", "KEELWAY_TOKEN", "KEELWAY_TOKEN_FILE", "KEELWAY_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving() as server:
        yield server


@pytest.fixture
def client(wire: Wire) -> Iterator[Client]:
    with Client(wire.url, "kw_secret", retry_for_s=5) as made:
        yield made
