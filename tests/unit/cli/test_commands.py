"""What all commands have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import get_args

import pytest
import typer

from keelway.cli import operation
from keelway.cli.app import app
from keelway.contracts.operations import OperationState
from tests.unit.sdk import samples
from tests.unit.sdk.wire import Answer, problem, serving

W = "/v1/workspaces/default"


def commands(group, *words: str):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)
        else:
            yield (*words, name), command


ALL = dict(commands(typer.main.get_command(app)))
DESTRUCTIVE = {
    ("model", "delete"),
    ("service", "delete"),
    ("package", "delete"),
    ("image", "delete"),
    ("service", "data", "delete"),
    ("operation", "cancel"),
}


def test_the_commands_of_this_release_are_there():
    expected = """
        up demo doctor login whoami score gc scrub
        workspace create|list|show|update|use
        model register|list|show|files|sign|verify|update|approve|inspect|delete|download|deploy|package
        model alias set|remove|list|show|history
        experiment list
        run create|list|show|upload|metric|finish|register-best
        environment register|list|show|lock|build
        image list|show|sbom|save|delete
        package list|show|save|pull|sbom|registry|delete
        service list|show|run|logs|update|rollback|restart|delete
        service data list|download|delete
        operation list|show|watch|logs|cancel
    """
    words = set()
    for line in expected.split("\n"):
        *nouns, last = line.split() or [""]
        is_group = "|" in last or nouns == ["experiment"]
        words |= {(*nouns, verb) for verb in last.split("|")} if is_group else {(name,) for name in line.split()}

    assert set(ALL) == words


@pytest.mark.parametrize("words", ALL)
def test_every_command_takes_json_and_workspace_and_says_what_it_does(words):
    options = {option for parameter in ALL[words].params for option in parameter.opts}

    assert {"--json", "-w", "--workspace", "--workspace-name"} <= options
    assert ALL[words].help
    assert ("--yes" in options) == (words in DESTRUCTIVE)


@pytest.mark.parametrize("words", ALL)
def test_every_command_explains_itself(keelway, words):
    assert keelway(*words, "--help").exit_code == 0


def test_the_states_to_filter_by_are_those_of_the_contract():
    assert list(get_args(operation.State)) == [state.value for state in OperationState]


def test_help_imports_neither_the_http_client_nor_pydantic():
    code = (
        "import sys, contextlib, io\n"
        "from keelway.cli import main\n"
        "sys.argv = ['keelway', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "sys.exit(', '.join({'httpx2', 'pydantic', 'yaml', 'rich.console'} & set(sys.modules)) or None)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_is_readable_and_without_traceback(wire, keelway):
    wire.on(f"GET {W}/services/x", problem(409, "blobs-missing", "they are missing", paths=["a", "b"]))

    result = keelway("service", "show", "x")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: A title: they are missing\n  paths: a, b\n"


def test_with_json_an_error_is_one_document_on_stderr(wire, keelway):
    wire.on(f"GET {W}/services/x", problem(404, "not-found", "no x", kind="service"))

    result = keelway("service", "show", "x", "--json")

    assert (result.exit_code, result.stdout) == (1, "")
    document = json.loads(result.stderr)
    assert (document["type"], document["status"], document["kind"]) == ("not-found", 404, "service")


def test_nobody_there_is_an_error_like_any_other(keelway, monkeypatch):
    with serving() as gone:
        monkeypatch.setenv("KEELWAY_URL", gone.url)
    monkeypatch.setattr("keelway.transport._may_heal", lambda _: False)

    result = keelway("whoami", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stderr)["type"] == "Unreachable"


def test_what_the_file_system_refuses_is_an_error_like_any_other(keelway, tmp_path, monkeypatch):
    (tmp_path / "config").write_text("a file where the folder should be")
    monkeypatch.setenv("KEELWAY_TOKEN_FILE", str(tmp_path / "nope"))

    assert "cannot be read" in keelway("whoami").stderr
    monkeypatch.delenv("KEELWAY_TOKEN_FILE")
    result = keelway("whoami")

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("service", "show"),
        ("service", "show", "a", "-n", "b"),
        ("model", "register", "-n", "x"),
        ("model", "register", "-n", "x", "-p", "y", "--tag", "novalue"),
        ("model", "register", "-n", "x", "-p", "y", "--tag", "a=1", "--tag", "a=2"),
        ("model", "register", "-n", "x", "-p", "y", "-e", "e", "-r", "r"),
        ("model", "register", "-n", "x", "--asset-path", "y", "-e", "e"),
        ("run", "create"),
        ("run", "finish", "-e", "e", "-r", "r", "--state", "running"),
        ("run", "metric", "-e", "e", "-r", "r", "auc=high"),
        ("operation", "list", "--state", "nonsense"),
        ("service", "logs", "x", "-f", "--json"),
        ("model", "list", "--order-by", "size"),
        ("model", "list", "--order", "up"),
        ("model", "download", "x", "--tar", "--file", "a"),
        ("model", "update", "x", "--sample-input", "a.json", "--remove-sample-input"),
        ("environment", "register", "x"),
        ("nonsense",),
    ],
)
def test_wrong_use_ends_with_2(keelway, arguments):
    result = keelway(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")


def run_json(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", "from keelway.cli import main; main()", *arguments, "--json"]
    return subprocess.run(command, capture_output=True, text=True, input=input, check=False)


def test_with_json_wrong_use_is_a_document_too():
    for arguments in (("service", "show"), ("service", "show", "--nonsense"), ("service", "run", "x"), ("nonsense",)):
        done = run_json(*arguments)

        assert (done.returncode, done.stdout) == (2, "")
        assert json.loads(done.stderr)["type"] == "usage"


def test_with_json_the_exit_code_is_still_the_commands(wire):
    wire.on("GET /v1/workspaces/default/services", Answer(body={"items": []}))

    good = run_json("service", "list")
    bad = run_json("service", "show", "x")
    refused = run_json("service", "delete", "x", input="n\n")

    assert (good.returncode, json.loads(good.stdout), good.stderr) == (0, [], "")
    assert (bad.returncode, json.loads(bad.stderr)["type"]) == (1, "not-found")
    assert (refused.returncode, refused.stdout) == (1, "")


def test_the_workspace_option_is_where_the_request_goes(wire, keelway):
    for spelling in ("-w", "--workspace", "--workspace-name"):
        wire.on("GET /v1/workspaces/team/services", Answer(body={"items": []}))

        assert keelway("service", "list", spelling, "team").exit_code == 0


def test_what_is_destroyed_is_asked_about_first(wire, keelway):
    wire.on(f"DELETE {W}/services/x", Answer(202, samples.operation()))
    wire.on(f"GET /v1/operations/{samples.OPERATION_ID}", Answer(body=samples.operation()))

    assert keelway("service", "delete", "x", input="n\n").exit_code == 1
    assert keelway("service", "delete", "x", input="").exit_code == 1
    assert not wire.asked

    agreed = keelway("service", "delete", "x", "--json", input="y\n")
    assert agreed.exit_code == 0
    assert json.loads(agreed.stdout)["state"] == "succeeded"
    assert keelway("service", "delete", "x", "--yes").exit_code == 0
