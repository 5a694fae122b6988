"""`keelway up`, `demo` and `doctor` hand over to the embedded stack."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from keelway.cli import stack


@pytest.fixture
def standalone(monkeypatch):
    """A stand-in for keelway_standalone.cli that keeps what it was called with."""
    module = ModuleType("keelway_standalone.cli")
    calls = []
    for name, exit_code in {"up": 0, "demo": 0, "doctor": 1}.items():

        def function(_name=name, _exit_code=exit_code, **arguments):
            calls.append((_name, arguments))
            print("for people")
            return _exit_code

        setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "keelway_standalone.cli", module)
    return calls


def test_up_passes_its_options_on(standalone, keelway):
    keelway("up", "--data-dir", "/data", "--port", "7400", "--gateway-port", "7401")

    assert standalone == [("up", {"data_dir": Path("/data"), "host": "127.0.0.1", "port": 7400, "gateway_port": 7401})]


def test_port_0_asks_for_any_free_one(standalone, keelway):
    keelway("up", "--port", "0", "--gateway-port", "0")

    assert standalone == [("up", {"data_dir": None, "host": "127.0.0.1", "port": 0, "gateway_port": 0})]


def test_the_exit_code_is_the_commands(standalone, keelway):
    assert keelway("demo").exit_code == 0
    assert keelway("doctor").exit_code == 1


def test_with_json_stdout_holds_one_document(standalone, keelway):
    result = keelway("doctor", "--json")

    assert json.loads(result.stdout) == {"command": "doctor", "exit_code": 1}
    assert "for people" in result.stderr


def test_without_the_embedded_stack_it_says_what_to_install(keelway, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="keelway_standalone")

    monkeypatch.setattr(stack.importlib, "import_module", missing)

    result = keelway("up")

    assert result.exit_code == 1
    assert "pip install keelway" in result.stderr
