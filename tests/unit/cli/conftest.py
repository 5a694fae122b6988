"""A scripted server that the command line is pointed at, and no context of the person who runs the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner

from keelway.cli.app import app
from tests.unit.sdk.wire import Wire, serving

Run = Callable[..., object]


@pytest.fixture(autouse=True)
def _no_context(monkeypatch, tmp_path):
    for name in ("KEELWAY_URL", "KEELWAY_TOKEN", "KEELWAY_TOKEN_FILE", "KEELWAY_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def wire(monkeypatch) -> Iterator[Wire]:
    with serving() as server:
        monkeypatch.setenv("KEELWAY_URL", server.url)
        monkeypatch.setenv("KEELWAY_TOKEN", "kw_secret")
        yield server


@pytest.fixture
def keelway():
    """Runs a command: `keelway("model", "list").exit_code`, with `.stdout` and `.stderr`."""
    runner = CliRunner()

    def run(*arguments: str, input: str | None = None):
        result = runner.invoke(app, list(arguments), input=input)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run
