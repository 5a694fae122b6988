"""`keelway score` and `keelway doctor`."""

import json
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.support.command_line import KEELWAY
from tests.support.objects import remove, write
from tests.support.stack import until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "adult_frame"


def test_an_entry_script_is_scored_here_without_a_deployment(keelway, tmp_path):
    (tmp_path / "weights.json").write_text('{"factor": 3}')
    (tmp_path / "score.py").write_text(
        "import json\n"
        "from azureml.core.model import Model\n"
        "def init():\n"
        "    global factor\n"
        "    factor = json.load(open(Model.get_model_path('tripler') + '/weights.json'))['factor']\n"
        "def run(data):\n"
        "    return [factor * x for x in json.loads(data)['data']]\n"
    )
    arguments = ["score", "--entry-script", tmp_path / "score.py", "--model", f"tripler={tmp_path}/", "--json"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([KEELWAY, *arguments], stdout=subprocess.PIPE, stderr=log, text=True, env=keelway.env)
    try:
        lines = "".join(iter(server.stdout.readline, "}\n")) + "}"
        uri = json.loads(lines)["scoring_uri"]
        until(lambda: '"event":"ready"' in (tmp_path / "log").read_text(), "the script is loaded")
        with urllib.request.urlopen(urllib.request.Request(uri, b'{"data": [1, 2]}'), timeout=30) as answer:
            assert json.load(answer) == [3, 6]
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(20)
        server.stdout.close()

    assert code == 0


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_doctor_finds_a_healthy_stack_healthy(keelway, stack, user, as_json):
    user.model  # noqa: B018 - something to look at

    looked = keelway("doctor", "--data-dir", stack.data_dir, *as_json)

    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "nothing is wrong" in looked.stdout + looked.stderr


def test_doctor_lists_what_is_broken(keelway, stack, user):
    sha256 = user.register("doomed", b"soon gone").files[0].sha256
    key = remove(stack.s3, sha256)

    looked = keelway("doctor", "--data-dir", stack.data_dir)

    assert looked.returncode == 1
    assert f"WRONG      content: default/doomed:1 doomed.bin (sha256 {sha256}) is not in the store" in looked.stdout
    assert "1 thing(s) wrong" in looked.stdout
    write(stack.s3, key, b"soon gone")
    assert keelway("doctor", "--data-dir", stack.data_dir).returncode == 0
