"""`keelway score`: the layout, and a real server in the foreground."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from keelway.cli.score import lay_out
from keelway.errors import InvalidInput

SCRIPT = """
import os
from pathlib import Path

def init():
    global text
    folder = Path(os.environ["AZUREML_MODEL_DIR"])
    text = next(folder.iterdir()).read_text()

def run(data):
    return {"model": text, "data": data}
"""


def test_one_model_is_laid_out_as_in_a_replica(tmp_path):
    (tmp_path / "m.bin").write_text("x")
    root = tmp_path / "root"
    root.mkdir()

    environment = lay_out(root, tmp_path / "score.py", [("ridge", tmp_path / "m.bin")])

    assert (root / "azureml-models" / "ridge" / "1" / "m.bin").read_text() == "x"
    assert environment == {
        "AML_APP_ROOT": str(root),
        "AZUREML_ENTRY_SCRIPT": "score.py",
        "AZUREML_SOURCE_DIRECTORY": "source",
        "AZUREML_MODEL_DIR": str(root / "azureml-models" / "ridge" / "1"),
    }


def test_a_model_alone_is_laid_out_without_a_script(tmp_path):
    (tmp_path / "m.pkl").write_text("x")

    environment = lay_out(tmp_path, "ScikitLearn", [("ridge", tmp_path / "m.pkl")])

    assert environment == {
        "AML_APP_ROOT": str(tmp_path),
        "AZUREML_MODEL_DIR": str(tmp_path / "azureml-models" / "ridge" / "1"),
        "KEELWAY_NO_CODE": "ScikitLearn",
    }


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_several_models_or_none_have_the_folder_of_all(tmp_path, names):
    environment = lay_out(tmp_path, tmp_path / "score.py", [(name, tmp_path) for name in names])

    assert environment["AZUREML_MODEL_DIR"] == str(tmp_path / "azureml-models")


def test_two_models_of_one_name_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="NAME=PATH"):
        lay_out(tmp_path, tmp_path / "score.py", [("a", tmp_path), ("a", tmp_path)])


@pytest.mark.parametrize("model", ["nope.bin", "../x=m.bin", "=m.bin"])
def test_a_model_that_cannot_be_used_is_refused(keelway, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.bin").write_text("x")
    (tmp_path / "score.py").write_text(SCRIPT)

    assert keelway("score", "--entry-script", "score.py", "--model", model).exit_code == 1


def test_a_script_that_does_not_parse_is_refused(keelway, tmp_path):
    (tmp_path / "score.py").write_text("def run(:")

    result = keelway("score", "--entry-script", str(tmp_path / "score.py"))

    assert result.exit_code == 1
    assert "does not parse" in result.stderr


@pytest.mark.parametrize("options", [[], ["--entry-script", "score.py", "--framework", "Onnx"]])
def test_a_script_and_a_framework_exclude_each_other_and_one_is_needed(keelway, options):
    result = keelway("score", *options)

    assert result.exit_code == 2
    assert "exactly one" in result.stderr


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from keelway.cli import main; main()", "score", "--json", *arguments]
    log = (tmp_path / "log").open("w")
    with log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ})


def ask(url: str, body: bytes = b"[1]") -> object:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    for _ in range(150):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.loads(answer.read())
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server never answered")


def scoring_uri(process: subprocess.Popen[str]) -> str:
    document = ""
    while not document.endswith("}\n"):
        document += process.stdout.readline()
    return json.loads(document)["scoring_uri"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_is_served_until_a_signal_comes(tmp_path, number):
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "m.txt").write_text("weights")
    arguments = ["--entry-script", str(tmp_path / "score.py"), "--model", f"ridge={tmp_path / 'm.txt'}"]

    with start(tmp_path, *arguments) as process:
        answer = ask(scoring_uri(process))
        process.send_signal(number)
        exit_code = process.wait(timeout=30)

    assert answer == {"model": "weights", "data": "[1]"}
    assert exit_code == 0, (tmp_path / "log").read_text()


def test_the_exit_code_of_a_script_that_cannot_be_loaded_is_passed_on(tmp_path):
    (tmp_path / "score.py").write_text("raise ValueError('no')")

    with start(tmp_path, "--entry-script", str(tmp_path / "score.py")) as process:
        process.communicate(timeout=60)

    assert process.returncode == 3
    assert "ValueError: no" in (tmp_path / "log").read_text()


def test_a_model_is_served_without_a_script(tmp_path):
    model = pytest.importorskip("sklearn.linear_model").LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    (tmp_path / "line.pkl").write_bytes(pickle.dumps(model))

    with start(tmp_path, "--framework", "ScikitLearn", "--model", str(tmp_path / "line.pkl")) as process:
        try:
            answer = ask(scoring_uri(process), b'{"data": [[2], [3]]}')
        finally:
            process.terminate()

    assert answer == pytest.approx([5.0, 7.0]), (tmp_path / "log").read_text()
